"""An append-only journal: numbered documents, each created only if absent, so that one writer wins each number."""

from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from tasks.core.errors import DocumentInvalid, ObjectExists, ObjectMissing
from tasks.core.store.base import Store
from tasks.core.store.documents import Document, parse, read_document, render

EVERY = 10  # documents after which a snapshot is written
D = TypeVar("D", bound=Document)
_read: WeakKeyDictionary[Store, dict[str, list[Document]]] = WeakKeyDictionary()  # immutable: each is read once a store


class Snapshot(Document):
    """The first documents of a journal, as they were written. It can be made of them again."""

    documents: tuple[str, ...]


class Journal(Generic[D]):
    """The documents of one kind in a folder of the store, numbered from 1 without a gap.

    Reading takes the same number of requests whatever their number is: the snapshot, a listing of what comes after it,
    and that. Documents that two processes might write at the same moment must differ, in a time or a writer's id: on S3
    the same bytes found under the number are taken for the caller's own.
    """

    def __init__(self, store: Store, folder: str, kind: type[D]) -> None:
        self.store, self.folder, self.kind = store, folder, kind

    def read(self) -> list[D]:
        """All documents, oldest first."""
        known = _read.setdefault(self.store, {})
        read = [document for document in known.get(self.folder, []) if isinstance(document, self.kind)]
        read = read or [parse(self.kind, text.encode(), self._key(n)) for n, text in enumerate(self._snapshot(), 1)]
        read += [read_document(self.store, self.kind, key) for key in self._keys(len(read))]
        known[self.folder] = [*read]
        return read

    def newest(self) -> D | None:
        """The last document, or None."""
        read = self.read()
        return read[-1] if read else None

    def append(self, number: int, document: D) -> bool:
        """Write the document under the number after the last one that was read; False if another writer was first."""
        try:
            self.store.create(self._key(number), render(document))
        except ObjectExists:
            return False
        if number % EVERY == 0:
            self._write_snapshot()
        return True

    def _key(self, number: int) -> str:
        return f"{self.folder}{number:06d}.json"

    def _keys(self, number: int) -> list[str]:
        """The keys of what comes after a number."""
        return [key for key in self.store.list(self.folder, self._key(number)) if key.endswith(".json")]

    def _snapshot(self) -> tuple[str, ...]:
        """The documents of the snapshot; none without one, or if it is damaged."""
        try:
            return read_document(self.store, Snapshot, self._place()).documents
        except (ObjectMissing, DocumentInvalid):
            return ()

    def _write_snapshot(self) -> None:
        """Write what is there; of two writers at once the last stands, which may have the shorter one."""
        texts = list(self._snapshot())
        keys = self._keys(len(texts))
        if keys == [self._key(number) for number in range(len(texts) + 1, len(texts) + len(keys) + 1)]:
            texts += [self.store.read(key).decode() for key in keys]
            self.store.write(self._place(), render(Snapshot(documents=tuple(texts))))

    def _place(self) -> str:
        return f"{self.folder}snapshot"
