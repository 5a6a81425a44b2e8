"""Redaction of private data in prompts: each match of a detector is replaced by a word for its kind.

A detector reads a folded copy (digits and letters of all widths and digits of all scripts as ASCII, nothing of zero
width), so that no spelling hides a number; a prompt without a match is returned unchanged. What has a check
digit or a numbering plan is checked, so that sizes, seeds, dates and years stay.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from tasks.core.traffic.private_numbers import (
    find_addresses,
    find_cards,
    find_ibans,
    find_phones,
    find_security_numbers,
)
from tasks.core.traffic.secret_patterns import Span, find_keys

MOST = 50_000  # characters that are read; what is beyond is cut off
MARGIN = 200  # characters before that end, which are cut off too: what begins in them may not be whole
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


DETECTORS: tuple[tuple[str, Callable[[str], Iterable[Span]]], ...] = (
    ("[url]", _urls),
    ("[key]", find_keys),
    ("[email]", _mails),
    ("[iban]", find_ibans),
    ("[card]", find_cards),
    ("[phone]", find_phones),
    ("[id]", find_security_numbers),
    ("[ip]", find_addresses),
)
