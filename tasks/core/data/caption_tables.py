"""Captions of many pictures in one file, as other programs write them.

Hugging Face's imagefolder writes metadata.jsonl and metadata.csv, kohya's scripts a JSON object by the picture's name.
"""

import codecs
import csv
import io
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import PurePosixPath

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

READING = "1"  # raise it when the same bytes are read as other captions than before
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

    Any other encoding would be a guess and silently give wrong captions. Raises ValueError.
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
    """The text in NFC, with single spaces, without invisible characters."""
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


DELIMITERS = ",;\t"


class CaptionLine(BaseModel):
    """A picture and its caption; other fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    file_name: str = Field(
        min_length=1,
        description="relative to the table's folder",
        validation_alias=AliasChoices(
            "file_name", "image", "image_path", "filepath", "file_path", "filename", "image_file_name"
        ),
    )
    text: str = Field(validation_alias=AliasChoices("text", "caption", "prompt"))


def read_table(name: str, data: bytes) -> Iterator[tuple[str, CaptionLine | str]]:
    """Each line of a table by its place: the line, or what is wrong with it."""
    try:
        if name.casefold().endswith(".jsonl"):
            yield from _lines(data)
        elif name.casefold().endswith(".csv"):
            yield from _rows(decode_text(data))
        else:
            yield from _json(from_json(decode_text(data)))
    except UnicodeDecodeError:
        yield "", "is not UTF-8 text"
    except (ValueError, csv.Error) as error:
        yield "", str(error)


def _lines(data: bytes) -> Iterator[tuple[str, CaptionLine | str]]:
    wide = b"\0" in data  # UTF-16; else each line is decoded by itself, so that it can be named
    lines = (decode_text(data).encode() if wide else data.removeprefix(BOM_UTF8)).splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"line {number}", _line(line)


def _line(line: bytes) -> CaptionLine | str:
    try:
        return CaptionLine.model_validate_json(line.decode())
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    except ValidationError as error:
        return _reason(error)


def _rows(text: str) -> Iterator[tuple[str, CaptionLine | str]]:
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=head.count))
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    for row in reader:
        yield f"line {reader.line_num}", _entry(row)


def _json(found: object) -> Iterator[tuple[str, CaptionLine | str]]:
    if isinstance(found, list):
        yield from ((f"entry {number}", _entry(entry)) for number, entry in enumerate(found, 1))
    elif isinstance(found, dict):
        yield from ((f"entry {name!r}", _named(name, entry)) for name, entry in found.items())
    else:
        yield "", "is neither a list nor an object"


def _named(name: str, entry: object) -> CaptionLine | str:
    """An entry by the picture's name, or by its name without ending: kohya's, whose tags follow the caption."""
    if not isinstance(entry, dict):
        return _entry({"file_name": name, "text": entry})
    tags = entry.get("tags") or []
    parts = [entry.get("caption"), *(tags if isinstance(tags, list) else [tags])]
    joined = ", ".join(part for part in parts if part and isinstance(part, str))
    return _entry({**entry, "file_name": name} | ({"caption": joined} if joined else {}))


def _entry(entry: object) -> CaptionLine | str:
    try:
        return CaptionLine.model_validate(entry)
    except ValidationError as error:
        return _reason(error)


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    place = "".join(f"{part}: " for part in first["loc"])
    return place + first["msg"].replace("at line 1 column", "at column")


def path_of(table: str, file_name: str) -> str:
    """The picture that a line of a table names, by its path among the uploads."""
    return str(PurePosixPath(table).parent / file_name.replace("\\", "/"))
