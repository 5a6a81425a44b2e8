"""Captions that lie beside uploaded pictures: texts of one picture each, and tables of many.

A picture gets a caption only where the match is unambiguous. Names are compared exactly, then case-insensitively and
in Unicode normal form.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from tasks.core.data.caption_tables import clean, hides_characters, path_of
from tasks.core.data.file_kinds import TEXTS, Uploads, suffix_of
from tasks.core.data.index import TableEntry, TextEntry
from tasks.core.data.remarks import remark, shown
from tasks.core.data.uploads import UploadReader
from tasks.core.errors import CaptionsUnusable, ObjectMissing, ObjectUnreadable

NOTE = re.compile(r"(readme|licen[cs]e|copying|credits|notes?|changelog|requirements)\b")  # texts that are no captions


class Captions:
    """The captions of a dataset's pictures, and remarks on captions without a picture."""

    def __init__(self, reader: UploadReader, dataset: str, uploads: Uploads) -> None:
        """Read all captions among the uploads; raises CaptionsUnusable when a table is damaged or names no picture."""
        self.reader = reader
        self.pictures = frozenset(uploads.pictures)
        self.exact, self.folded = _index(uploads.pictures, str), _index(uploads.pictures, _fold)
        self.found: dict[str, str] = {}
        self.faults: dict[str, str] = {}  # pictures whose caption can't be read
        self.idle: dict[str, list[str]] = defaultdict(list)  # by the text of the remark
        self.texts = self._read_texts(uploads.texts)
        self.tables: dict[str, TableEntry] = {}
        nearest_first = sorted(uploads.tables, key=lambda name: (-name.count("/"), name))
        faults = [fault for name in nearest_first for fault in self._read_table(name)]
        if faults:
            raise CaptionsUnusable(dataset, faults)

    def remarks(self) -> list[str]:
        """A line for each kind of caption that is not used, or is changed."""
        return [line for what, names in self.idle.items() for line in remark(names, "caption", what)]

    def _certainty(self, name: str) -> tuple[bool, int, str]:
        return name.rpartition(".")[0] not in self.pictures, TEXTS.index(suffix_of(name)), name

    def _read_texts(self, names: Iterable[str]) -> dict[str, TextEntry]:
        """Read the files with the caption of one picture; returns those whose picture is certain."""
        named = {name: self._named_by(name.rpartition(".")[0]) for name in sorted(names, key=self._certainty)}
        texts = self.reader.texts(name for name, found in named.items() if len(found) == 1 or self._are_copies(found))
        for name, found in named.items():
            if name in texts:
                self._use(name, texts[name], found)
            else:
                self._leave(name, found)
        return texts

    def _use(self, name: str, text: TextEntry, named: list[str]) -> None:
        if not text.fault:
            for picture in named:
                self._take(picture, text.text, name)
            return
        waiting = set(named) - set(self.found)
        self.faults |= dict.fromkeys(waiting, f"its caption {text.fault}")
        if not waiting:
            self.idle["unused, as it cannot be read and the picture has another"].append(name)

    def _read_table(self, name: str) -> Iterator[str]:
        """Read the captions of a table; yields its faults."""
        table = self.tables[name] = self.reader.table(name)
        certain = 0
        for line in table.lines:
            where = f"{name} {line.place}".rstrip()
            if line.fault:
                yield f"{shown(where)}: {shown(line.fault)}"
                continue
            picture = path_of(name, line.file_name)
            named = [picture] if picture in self.pictures else self._named_by(picture)
            certain += len(named) == 1
            if len(named) == 1:
                self._take(named[0], line.text, where)
            else:
                self._leave(f"{where} ({line.file_name})", named)
        if not table.lines:
            self.idle["without text"].append(name)
        elif not certain and not any(line.fault for line in table.lines):
            count = len(table.lines)
            yield f"{shown(name)}: none of its {count} lines names a picture by its path in the table's folder"

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
            return len({self.reader.sha256(name) for name in pictures}) == 1
        except (ObjectMissing, ObjectUnreadable):
            return False


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
