"""The uploads of a dataset: those that are new or were changed are read, the others are known from its index."""

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from tasks.core.config.presets import IngestSpec
from tasks.core.data.caption_tables import CaptionLine, decode_text, read_table
from tasks.core.data.file_kinds import may_enter
from tasks.core.data.index import DatasetIndex, PictureEntry, TableEntry, TableLine, TextEntry, UploadEntry
from tasks.core.data.parallel import PIXELS, Room, in_order
from tasks.core.data.picture_validation import examine
from tasks.core.errors import ObjectMissing, ObjectTooLarge, ObjectUnreadable, PictureRefused
from tasks.core.store import Listed, Store

MOST_BYTES = 2**16  # of a caption: a base model reads 77 of its tokens
UNSETTLED = timedelta(seconds=2)  # what is younger may be written again with the same time and tag
BYTES = 256_000_000  # of all files that are read at once

MISSING = "was removed, or is a link to nothing"

E = TypeVar("E", bound=UploadEntry)
T = TypeVar("T")


@dataclass(frozen=True)
class Unread:
    """An upload that is listed but cannot be read."""

    name: str
    reason: str


class UploadReader:
    """Reads the uploads of a dataset; `read` is how many of them were not known from the index."""

    def __init__(self, store: Store, dataset: str, spec: IngestSpec, index: DatasetIndex, workers: int = 0) -> None:
        """List the uploads.

        Args:
            workers: threads that read and decode; 0 for the number that suits this machine.
        """
        self.store, self.folder, self.spec, self.workers = store, f"uploads/{dataset}/", spec, workers
        self.index, self.read = index, 0
        self.begun = datetime.now(UTC)
        self.listed = {found.key.removeprefix(self.folder): found for found in store.scan(self.folder)}
        self._pixels, self._bytes = Room(PIXELS), Room(BYTES)

    def odd(self) -> list[str]:
        """Names that no store can hold."""
        return [key.removeprefix(self.folder) for key in self.store.list_odd(self.folder)]

    def texts(self, names: Iterable[str]) -> dict[str, TextEntry]:
        """Files with the caption of one picture; an empty tag marks one that may be read at another time."""
        return self._found(names, lambda name: self._known(name, self.index.texts), self._text)

    def table(self, name: str) -> TableEntry:
        """A file with the captions of many pictures; raises ObjectMissing or ObjectUnreadable."""
        return self._found([name], lambda name: self._known(name, self.index.tables), self._table)[name]

    def sha256(self, name: str) -> str:
        """The hash of a picture's file; raises ObjectMissing or ObjectUnreadable."""
        known = self._known(name, self.index.pictures)
        return known.sha256 if known else self.store.sha256(self.folder + name)

    def pictures(
        self, names: Iterable[str], stored: Container[str], unwanted: Container[str]
    ) -> dict[str, PictureEntry | Unread]:
        """Examine pictures, and store those that may enter a dataset as blobs.

        Args:
            stored: hashes of pictures with a blob that nobody deletes; others are read also if they are known.
            unwanted: names of pictures that are not stored.
        """

        def known(name: str) -> PictureEntry | None:
            entry = self._known(name, self.index.pictures)
            return entry if entry and (entry.reason or name in unwanted or entry.sha256 in stored) else None

        def read(name: str) -> PictureEntry | Unread:
            return self._picture(name, stored, wanted=name not in unwanted)

        return self._found(names, known, read)

    def settled(self, entries: Mapping[str, E]) -> dict[str, E]:
        """The entries that hold until their uploads are listed with another size or tag."""
        return {name: entry for name, entry in entries.items() if entry.tag and self._is_settled(self.listed[name])}

    def others(self, *entries: Container[str]) -> dict[str, UploadEntry]:
        """The settled uploads that may enter a dataset and are among none of the entries."""
        left = {name: found for name, found in self.listed.items() if may_enter(name) and self._is_settled(found)}
        return {
            name: UploadEntry(size=found.size, time=found.time, tag=found.tag)
            for name, found in left.items()
            if not any(name in some for some in entries)
        }

    def _is_settled(self, found: Listed) -> bool:
        return found.time < self.begun - UNSETTLED

    def _known(self, name: str, entries: Mapping[str, E]) -> E | None:
        entry = entries.get(name)
        return entry if entry and entry.is_of(self.listed[name]) else None

    def _found(self, names: Iterable[str], known: Callable[[str], T | None], read: Callable[[str], T]) -> dict[str, T]:
        """What each upload is: as it is known, else as it is read."""
        found = {name: known(name) for name in names}
        fresh = [name for name, entry in found.items() if entry is None]
        self.read += len(fresh)
        found |= dict(zip(fresh, in_order(read, fresh, self.workers), strict=True))
        return {name: entry for name, entry in found.items() if entry is not None}

    def _text(self, name: str) -> TextEntry:
        found = self.listed[name]
        try:
            text, fault = decode_text(self.store.read_within(self.folder + name, MOST_BYTES)), ""
        except ObjectMissing:
            return TextEntry(size=found.size, time=found.time, tag="", fault=MISSING)
        except ObjectUnreadable as error:
            return TextEntry(size=found.size, time=found.time, tag="", fault=f"cannot be read: {error.problem}")
        except ObjectTooLarge:
            text, fault = "", f"is no caption: it is longer than {MOST_BYTES:,} bytes"
        except UnicodeDecodeError:
            text, fault = "", "is not UTF-8 text; save it as UTF-8"
        except ValueError as error:
            text, fault = "", f"is no caption: {error}"
        return TextEntry(size=found.size, time=found.time, tag=found.tag, text=text, fault=fault)

    def _table(self, name: str) -> TableEntry:
        found = self.listed[name]
        lines = tuple(_line(place, line) for place, line in read_table(name, self.store.read(self.folder + name)))
        return TableEntry(size=found.size, time=found.time, tag=found.tag, lines=lines)

    def _picture(self, name: str, stored: Container[str], wanted: bool) -> PictureEntry | Unread:
        with self._bytes.taken(min(self.listed[name].size, self.spec.max_bytes)):
            try:
                data = self.store.read_within(self.folder + name, self.spec.max_bytes)
            except ObjectMissing:
                return Unread(name, MISSING)
            except ObjectUnreadable as error:
                return Unread(name, error.problem)
            except ObjectTooLarge as large:
                reason = f"has {large.size} bytes, more than {self.spec.max_bytes}"
                advice = "save it smaller, or raise ingest.max_bytes"
                return self._entry(name, hashlib.sha256(name.encode()).hexdigest(), reason=f"{reason}; {advice}")
            entry = self._examined(name, data)
            if wanted and not entry.reason:
                self._keep(entry.sha256, data, stored)
            return entry

    def _examined(self, name: str, data: bytes) -> PictureEntry:
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            return self._entry(name, sha256, note=examine(name, data, self.spec, self._pixels))
        except PictureRefused as refused:
            return self._entry(name, sha256, reason=refused.reason)

    def _entry(self, name: str, sha256: str, note: str = "", reason: str = "") -> PictureEntry:
        found = self.listed[name]
        return PictureEntry(size=found.size, time=found.time, tag=found.tag, sha256=sha256, note=note, reason=reason)

    def _keep(self, sha256: str, data: bytes, stored: Container[str]) -> None:
        """Write a blob, also over an old one that no version may hold any more: so it is young, and not swept."""
        if not (sha256 in stored and self.store.exists(f"blobs/{sha256}")):
            self.store.write(f"blobs/{sha256}", data)


def _line(place: str, line: CaptionLine | str) -> TableLine:
    if isinstance(line, str):
        return TableLine(place=place, fault=line or "cannot be read")
    return TableLine(place=place, file_name=line.file_name, text=line.text)
