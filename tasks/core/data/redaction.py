"""Prompts without what is private: each find of a detector is replaced by a word for its kind.

A detector reads a folded copy (digits and letters of all widths and digits of all scripts as ASCII, nothing of zero
width), so that no spelling hides a number; a prompt in which nothing is found is returned as it was. What has a check
digit or a numbering plan is checked, so that sizes, seeds, dates and years stay.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from ipaddress import ip_address

from phonenumbers import Leniency, PhoneNumberMatcher
from stdnum import iban, luhn
from stdnum.us import ssn

from tasks.core.data.secret_patterns import Span, find_keys

MOST = 50_000  # characters that are read; what is beyond is cut off
MARGIN = 200  # characters before that end, which are cut off too: what begins in them may not be whole
REGIONS = (  # whose national numbers are known, the prefix of each country being known anyway
    *("US", "GB", "DE", "FR", "NG", "IN", "BR", "IT", "ES", "JP", "AU", "ZA", "NL", "PL", "PT", "BE", "CH", "AT"),
    *("SE", "NO", "DK", "FI", "IE", "GR", "TR", "UA", "MX", "CN", "KR", "KE", "GH", "EG", "ID", "PH", "VN", "TH"),
)
TRIES = 50  # stretches of digits that are looked up in a numbering plan

LOCAL = r"[\w.+'%&-]"
MAIL = re.compile(rf"(?<!{LOCAL})({LOCAL}++)@(?:\[[\w.:]{{2,45}}\]|([^\W_][\w-]*+(?:\.[\w-]++)*+))")
QUOTED_MAIL = re.compile(r'"[^"\n]{1,64}"@[\w-]+(?:\.[\w-]++)++')
SPELT_MAIL = re.compile(
    rf"(?<!{LOCAL})(?=[^\W\d_]){LOCAL}++(?:"
    r" ?[\[({<] ?(?:at|@) ?[\])}>] ?[^\W_][\w-]*+(?:(?:\.| ?[\[({<] ?(?:dot|\.) ?[\])}>] ?| dot )[^\W\d_][\w-]*+)++"
    r"| @ [^\W_][\w-]*+(?:\.[^\W\d_]{2,63}+)++"
    r"| at [^\W_][\w-]*+(?: dot [\w-]++){0,3}? dot (?:com|org|net|edu|gov|io|co|me|info|de|uk|fr|ng)\b)",
    re.IGNORECASE,
)
URL = re.compile(r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,20}://[^\s<>\"\u201c\u201d\u00ab\u00bb]+", re.IGNORECASE)
SECRET_NAME = re.compile(
    r"(?:^|[^a-z])(?:key|sig|pwd|pass|auth|code|jwt)$"
    r"|token|secret|signature|passw|credential|session|(?:api|access|account|private)[_-]?key",
    re.IGNORECASE,
)
SECRET_PATH = re.compile(
    r"//(?:hooks\.slack\.com/|discord(?:app)?\.com/api/webhooks/|api\.telegram\.org/bot|[\w-]+\.webhook\.office\.com/)",
    re.IGNORECASE,
)
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ \n.\-/]{0,2}[A-Za-z0-9]){11,34}")
JOINED = str.maketrans("", "", " \t\n.-/")
CARD = re.compile(r"(?<![\d.])[2-6](?:[ \n.\-/]{0,2}\d){12,22}")
ISSUER = re.compile(r"4\d{12}(?:\d{3,6})?|3[0689]\d{12}|3[47]\d{13}|(?:2[2-7]|35|5\d|6\d)\d{14,17}")
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
NOT_CALLED = re.compile(r"(?:seed|isbn|issn|ean|sku)\W{0,3}$", re.IGNORECASE)
SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
ADDRESS = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\d|\.\d)|(?<![\w:.])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{1,4}\b", re.IGNORECASE
)


def redact(prompt: str) -> str:
    """Return the prompt with `[email]`, `[phone]`, `[key]` and their like for what is private; never raises.

    What lies beyond 50,000 characters is cut off.
    """
    text = prompt[:MOST]
    plain, origin = _folded(text)
    found: list[tuple[int, int, str]] = []
    for word, find in DETECTORS:
        spans = list(find(plain))
        found += [(origin[start], origin[end - 1] + 1, word) for start, end in spans]
        plain = _blanked(plain, spans)
    return _replaced(text, sorted(found), len(text) if len(prompt) <= MOST else MOST - MARGIN)


def _replaced(text: str, found: Iterable[tuple[int, int, str]], limit: int) -> str:
    parts, place = [], 0
    for start, end, word in found:
        if start >= limit:
            break
        if start >= place:
            parts += [text[place:start], word]
        place = max(place, end)
    return "".join([*parts, text[place:limit]])


def _blanked(plain: str, spans: Iterable[Span]) -> str:
    """The text with line ends in place of what was found, so that no other detector finds a part of it."""
    letters = list(plain)
    for start, end in spans:
        letters[start:end] = "\n" * (end - start)
    return "".join(letters)


def _folded(text: str) -> tuple[str, range | list[int]]:
    """The text as detectors read it, and of each of its characters the place in the text."""
    if text.isascii() and text.isprintable():
        return text, range(len(text))
    pairs = [(letter, place) for place, char in enumerate(text) for letter in _fold(char)]
    return "".join(letter for letter, _ in pairs), [place for _, place in pairs]


@lru_cache(maxsize=4096)
def _fold(char: str) -> str:
    category = unicodedata.category(char)
    if char.isspace():
        return "\n" if char == "\n" else " "
    if category in {"Cc", "Cf", "Cs", "Me", "Mn"}:
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Pd" or char == "\N{MINUS SIGN}":
        return "-"
    return unicodedata.normalize("NFKC", char).replace("\N{IDEOGRAPHIC FULL STOP}", ".")


def _urls(text: str) -> Iterator[Span]:
    """URLs that hold a user, a password or a token."""
    for found in URL.finditer(text):
        whole = found[0].rstrip(".,;:!?)]}'")
        if SECRET_PATH.search(whole) or _has_user(whole.partition("://")[2]) or _has_secret(whole):
            yield found.start(), found.start() + len(whole)


def _has_user(rest: str) -> bool:
    """Whether there is user@ or user:password@ before the host; a password may hold a slash."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    _, colon, port = authority.partition(":")
    return "@" in authority or bool(colon and "@" in rest and not port.isdigit())


def _has_secret(url: str) -> bool:
    pairs = (part.partition("=") for part in re.split(r"[?&;#]", url)[1:])
    return any(value and SECRET_NAME.search(name) for name, _, value in pairs)


def _mails(text: str) -> Iterator[Span]:
    yield from (found.span() for found in MAIL.finditer(text) if _is_mail(found[1], found[2]))
    yield from (found.span() for pattern in (QUOTED_MAIL, SPELT_MAIL) for found in pattern.finditer(text))


def _is_mail(local: str, domain: str | None) -> bool:
    """Whether a person can be reached there: nobody at "85mm@f1.4" or "1080p@60fps"."""
    if domain is None or any(label[:2].isalpha() and len(label) > 1 for label in domain.split(".")[1:]):
        return True
    return domain.isalpha() and len(domain) > 3 and local[0].isalpha()


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


def _is_iban(number: str) -> bool:
    return iban.is_valid(number, check_country=False)


def _is_card(number: str) -> bool:
    return bool(ISSUER.fullmatch(number)) and luhn.is_valid(number)


def _phones(text: str) -> Iterator[Span]:
    """Numbers with a country's prefix, in the American form, with a leading zero, or after a word such as "call"."""
    yield from (found.span() for found in INTERNATIONAL.finditer(text) if not COORDINATE.match(found[0]))
    yield from (found.span() for found in AMERICAN.finditer(text))
    if NATIONAL.search(text):
        yield from _national(text)
    for found in CALLED.finditer(text):
        start, number = found.start(1), found[1]
        spans = [SHORT.match(number).span()] if SHORT.match(number) else _in_plan(number)
        yield from ((start + first, start + last) for first, last in spans)


def _national(text: str) -> Iterator[Span]:
    for start, end in _in_plan(text):
        raw = text[start:end]
        known = raw.lstrip("(").startswith("0") and sum(map(str.isdigit, raw)) >= 9
        if known and not NO_NUMBER.search(raw) and not NOT_CALLED.search(text[max(0, start - 12) : start]):
            yield start, end


def _in_plan(text: str) -> Iterator[Span]:
    """What is a number of some region's numbering plan."""
    for region in REGIONS:
        for match in PhoneNumberMatcher(text, region, leniency=Leniency.VALID, max_tries=TRIES):
            is_open = match.raw_string.startswith("(") and ")" not in match.raw_string
            yield match.start + is_open, match.end


def _addresses(text: str) -> Iterator[Span]:
    for found in ADDRESS.finditer(text):
        try:
            ip_address(found[0])
        except ValueError:
            continue
        yield found.span()


DETECTORS: tuple[tuple[str, Callable[[str], Iterable[Span]]], ...] = (
    ("[url]", _urls),
    ("[key]", find_keys),
    ("[email]", _mails),
    ("[iban]", lambda text: _checked(text, IBAN, _is_iban)),
    ("[card]", lambda text: _checked(text, CARD, _is_card)),
    ("[phone]", _phones),
    ("[id]", lambda text: (found.span() for found in SSN.finditer(text) if ssn.is_valid(found[0]))),
    ("[ip]", _addresses),
)
