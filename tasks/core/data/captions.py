"""Captions that lie beside uploaded pictures: texts of one picture each, and tables of many.

A picture gets a caption only where the match is unambiguous. Names are compared exactly, then case-insensitively and
in Unicode normal form.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from tasks.core.data.caption_tables import CaptionLine, clean, decode_text, hides_characters, path_of, read_table
from tasks.core.data.file_kinds import TEXTS, Uploads, suffix_of
from tasks.core.data.remarks import remark, shown
from tasks.core.errors import CaptionsUnusable, ObjectMissing, ObjectTooLarge, ObjectUnreadable, PictureRefused
from tasks.core.store import Store

NOTE = re.compile(r"(readme|licen[cs]e|copying|credits|notes?|changelog|requirements)\b")  # texts that are no captions
MOST_BYTES = 2**16  # of a caption: a base model reads 77 of its tokens


class Captions:
    """The captions of a dataset's pictures, and remarks on captions without a picture."""

    def __init__(self, store: Store, dataset: str, uploads: Uploads) -> None:
        """Read all captions among the uploads; raises CaptionsUnusable when a table is damaged or names no picture."""
        self.store, self.folder = store, f"uploads/{dataset}/"
        self.pictures = frozenset(uploads.pictures)
        self.exact, self.folded = _index(uploads.pictures, str), _index(uploads.pictures, _fold)
        self.found: dict[str, str] = {}
        self.faults: dict[str, str] = {}  # pictures whose caption can't be read
        self.idle: dict[str, list[str]] = defaultdict(list)  # by the text of the remark
        for name in sorted(uploads.texts, key=self._certainty):
            self._read_text(name)
        nearest_first = sorted(uploads.tables, key=lambda name: (-name.count("/"), name))
        faults = [fault for name in nearest_first for fault in self._read_table(name)]
        if faults:
            raise CaptionsUnusable(dataset, faults)

    def of(self, name: str) -> str:
        """The caption of a picture, "" without one; raises PictureRefused when it cannot be read."""
        if name in self.faults:
            raise PictureRefused(name, self.faults[name])
        return self.found.get(name, "")

    def remarks(self) -> list[str]:
        """A line for each kind of caption that is not used, or is changed."""
        return [line for what, names in self.idle.items() for line in remark(names, "caption", what)]

    def _certainty(self, name: str) -> tuple[bool, int, str]:
        return name.rpartition(".")[0] not in self.pictures, TEXTS.index(suffix_of(name)), name

    def _read_text(self, name: str) -> None:
        named = self._named_by(name.rpartition(".")[0])
        if len(named) != 1 and not self._are_copies(named):
            self._leave(name, named)
            return
        try:
            text = self._text(name)
        except (ObjectMissing, ObjectTooLarge, ObjectUnreadable, ValueError) as error:
            waiting = set(named) - set(self.found)
            self.faults |= dict.fromkeys(waiting, f"its caption {_fault(error)}")
            if not waiting:
                self.idle["unused, as it cannot be read and the picture has another"].append(name)
            return
        for picture in named:
            self._take(picture, text, name)

    def _text(self, name: str) -> str:
        try:
            return decode_text(self.store.read_within(self.folder + name, MOST_BYTES))
        except ObjectTooLarge as error:
            raise ValueError(f"it is longer than {MOST_BYTES:,} bytes") from error

    def _read_table(self, name: str) -> Iterator[str]:
        """Read the captions of a table; yields its faults."""
        lines = list(read_table(name, self.store.read(self.folder + name)))
        certain = 0
        for place, line in lines:
            where = f"{name} {place}".rstrip()
            if isinstance(line, str):
                yield f"{shown(where)}: {shown(line)}"
                continue
            picture = path_of(name, line)
            named = [picture] if picture in self.pictures else self._named_by(picture)
            certain += len(named) == 1
            if len(named) == 1:
                self._take(named[0], line.text, where)
            else:
                self._leave(f"{where} ({line.file_name})", named)
        if not lines:
            self.idle["without text"].append(name)
        elif not certain and all(isinstance(line, CaptionLine) for _, line in lines):
            yield f"{shown(name)}: none of its {len(lines)} lines names a picture by its path in the table's folder"

    def _leave(self, what: str, named: list[str]) -> None:
        if named:
            self.idle["that could be of several pictures, used for none"].append(f"{what} ({' or '.join(named)})")
        elif NOTE.match(what.rpartition("/")[2].casefold()):
            self.idle["left out as notes"].append(what)
        else:
            self.idle["of no picture"].append(what)

    def _take(self, picture: str, text: str, where: str) -> None:
        caption = clean(text)
        if not caption:
            self.idle["without text"].append(where)
        elif self.found.setdefault(picture, caption) != caption:
            self.idle["unused, as the picture has another"].append(f"{where} ({picture})")
        elif hides_characters(text):
            self.idle["cleared of invisible characters"].append(where)

    def _named_by(self, label: str) -> list[str]:
        """The pictures that a path, with or without their ending, can mean."""
        return self.exact.get(label) or self.folded.get(_fold(label)) or []

    def _are_copies(self, pictures: list[str]) -> bool:
        try:
            return len({self.store.sha256(self.folder + name) for name in pictures}) == 1
        except (ObjectMissing, ObjectUnreadable):
            return False


def _fault(error: Exception) -> str:
    match error:
        case ObjectMissing():
            return "was removed, or is a link to nothing"
        case ObjectUnreadable():
            return f"cannot be read: {error.problem}"
        case UnicodeDecodeError():
            return "is not UTF-8 text; save it as UTF-8"
    return f"is no caption: {error}"


def _index(pictures: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    """Pictures by their paths with and without ending."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in pictures:
        for label in (name, name.rpartition(".")[0]):
            found[key(label)].append(name)
    return dict(found)


def _fold(text: str) -> str:
    """The text case-folded and in normal form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
