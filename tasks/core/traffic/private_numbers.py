"""Numbers that belong to a person or a machine: IBANs, cards, telephones, social security numbers, addresses."""

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address

from phonenumbers import Leniency, PhoneNumberMatcher
from stdnum import iban, luhn
from stdnum.us import ssn

from tasks.core.traffic.secret_patterns import Span

REGIONS = (  # whose national numbers are known, the prefix of each country being known anyway
    *("US", "GB", "DE", "FR", "NG", "IN", "BR", "IT", "ES", "JP", "AU", "ZA", "NL", "PL", "PT", "BE", "CH", "AT"),
    *("SE", "NO", "DK", "FI", "IE", "GR", "TR", "UA", "MX", "CN", "KR", "KE", "GH", "EG", "ID", "PH", "VN", "TH"),
)
TRIES = 50  # stretches of digits that are looked up in a numbering plan

IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ \n.\-/]{0,2}[A-Za-z0-9]){11,34}")
JOINED = str.maketrans("", "", " \t\n.-/")
CARD = re.compile(r"(?<![\d.])[2-6]\d*(?:([ .\-/\n]{1,3})\d+(?:\1\d+){0,18})?")
ISSUER = re.compile(
    r"4\d{15}(?:\d{3})?|(?:2[2-7]|5[1-5])\d{14}|3[47]\d{13}|3[0689]\d{12}|(?:35|50|5[6-8]|6\d)\d{14,17}"
)
INTERNATIONAL = re.compile(r"(?<![\w+.])\+[ (]{0,2}[1-9](?:[ ().\-/]{0,3}\d){7,16}")
COORDINATE = re.compile(r"\+\d{1,3}\.\d{4,8}(?![\d-])")
AMERICAN = re.compile(r"(?<![\d.-])(?:1[-. ])?(?:\(\d{3}\) ?\d{3}[-. ]|\d{3}([-.])\d{3}\1)\d{4}(?![\d-])")
NATIONAL = re.compile(r"(?<![\w.])\(?0\d")
CALLED = re.compile(
    r"(?:\b(?:tel|call|dial|sms|fax|fon|whats ?app|text me|text us)\b(?: me| us)?(?: at| on)?"
    r"|(?:phone|mobile|cell|number|telefon|handy|t[eé]l[eé]phone|tel[eé]fono|celular)\b(?: number| no\.?)?(?=:| is| at)"
    r"(?: is| at)?|wa\.me/)[.:]? {0,2}(\(?\d[\d ().\-/]{5,24})",
    re.IGNORECASE,
)
SHORT = re.compile(r"\d{3}[-. ]\d{4}(?!\d)")
NO_NUMBER = re.compile(r"^0\.\d|^01234567|(?<!\d)\d{1,2}([./-])\d{1,2}\1\d{4}(?!\d)")  # decimals, all digits, dates
SEED = re.compile(r"(?:seed|isbn|issn|ean|sku)\W{0,4}$", re.IGNORECASE)  # or another number that is none of these
SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
ADDRESS = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\d|\.\d)|(?<![\w:.])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{1,4}\b", re.IGNORECASE
)


def _checked(text: str, candidate: re.Pattern[str], is_valid: Callable[[str], bool]) -> Iterator[Span]:
    """The longest part of each candidate that is valid without its separators and ends where a group does."""
    place = 0
    while found := candidate.search(text, place):
        whole = found[0]
        ends = (e for e in range(len(whole), 12, -1) if whole[e - 1].isalnum() and not whole[e : e + 1].isalnum())
        end = next((e for e in ends if is_valid(whole[:e].translate(JOINED))), 0)
        if end:
            yield found.start(), found.start() + end
        place = found.start() + (end or 1)


def find_ibans(text: str) -> Iterator[Span]:
    """IBANs of all countries, with or without spaces, in any case."""
    return _checked(text, IBAN, _is_iban)


def _is_iban(number: str) -> bool:
    return iban.is_valid(number, check_country=False)


def find_cards(text: str) -> Iterator[Span]:
    """Numbers of payment cards: an issuer's prefix and length, and Luhn's check digit."""
    for start, end in _checked(text, CARD, _is_card):
        if not SEED.search(text[max(0, start - 12) : start]):
            yield start, end


def _is_card(number: str) -> bool:
    return bool(ISSUER.fullmatch(number)) and luhn.is_valid(number)


def find_phones(text: str) -> Iterator[Span]:
    """Numbers with a country's prefix, in the American form, with a leading zero, or after a word such as "call"."""
    yield from (found.span() for found in INTERNATIONAL.finditer(text) if not COORDINATE.match(found[0]))
    yield from (found.span() for found in AMERICAN.finditer(text))
    if NATIONAL.search(text):
        yield from _national(text)
    for found in CALLED.finditer(text):
        start, number = found.start(1), found[1]
        short = SHORT.match(number)
        yield from ((start + first, start + last) for first, last in ([short.span()] if short else _in_plan(number)))


def _national(text: str) -> Iterator[Span]:
    for start, end in _in_plan(text):
        raw = text[start:end]
        known = raw.lstrip("(").startswith("0") and sum(map(str.isdigit, raw)) >= 9
        if known and not NO_NUMBER.search(raw) and not SEED.search(text[max(0, start - 12) : start]):
            yield start, end


def _in_plan(text: str) -> Iterator[Span]:
    """What is a number of some region's numbering plan."""
    for region in REGIONS:
        for match in PhoneNumberMatcher(text, region, leniency=Leniency.VALID, max_tries=TRIES):
            is_open = match.raw_string.startswith("(") and ")" not in match.raw_string
            yield match.start + is_open, match.end


def find_security_numbers(text: str) -> Iterator[Span]:
    """Social security numbers of the United States."""
    return (found.span() for found in SSN.finditer(text) if ssn.is_valid(found[0]))


def find_addresses(text: str) -> Iterator[Span]:
    """Addresses of machines."""
    for found in ADDRESS.finditer(text):
        try:
            ip_address(found[0])
        except ValueError:
            continue
        yield found.span()
