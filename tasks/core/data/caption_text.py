"""The text of caption files, as editors of all systems write them."""

import codecs
import unicodedata

BOMS = (  # UTF-32 before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
JOINERS = "\u200c\u200d"  # they matter inside of words in Persian, Indian scripts and emoji
MOST_CONTROL = 0.25  # of the characters: above it, it is no text


def decode_text(data: bytes) -> str:
    """UTF-8, or UTF-16 and UTF-32 with their mark, or UTF-16 of mostly Latin letters without.

    Any other encoding is a guess, which would make a wrong caption in silence. Raises ValueError.
    """
    for mark, encoding in BOMS:
        if data.startswith(mark):
            return data.removeprefix(mark).decode(encoding)
    text = data.decode(_without_mark(data)).strip("\0")
    control = sum(unicodedata.category(character) == "Cc" and not character.isspace() for character in text)
    if control > MOST_CONTROL * len(text):
        raise ValueError("it holds control characters as no text does")
    return text


def _without_mark(data: bytes) -> str:
    """UTF-16 where every other byte of more than half of the pairs is zero, and no byte beside them."""
    even, odd = data[::2].count(0), data[1::2].count(0)
    if len(data) % 2 == 0 and max(even, odd) > len(data) // 4 and min(even, odd) == 0:
        return "utf-16-le" if odd else "utf-16-be"
    return "utf-8"


def clean(text: str) -> str:
    """The text in NFC, with single spaces, without characters that show nothing."""
    visible = (character for character in unicodedata.normalize("NFC", text) if _shows(character))
    words = (word.strip(JOINERS) for word in "".join(visible).split())
    return unicodedata.normalize("NFC", " ".join(filter(None, words)))


def hides_characters(text: str) -> bool:
    """Whether the text holds characters, other than spaces and a mark at its start, that `clean` removes."""
    return any(not _shows(character) for character in text.removeprefix("\ufeff"))


def _shows(character: str) -> bool:
    if character.isspace() or character in JOINERS:
        return True
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs"}
