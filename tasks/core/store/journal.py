"""An append-only journal: numbered documents, each created only if absent, so that one writer wins each number."""

from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from tasks.core.errors import ObjectExists
from tasks.core.store.base import Store
from tasks.core.store.documents import Document, read_document, render

D = TypeVar("D", bound=Document)
_read: WeakKeyDictionary[Store, dict[str, Document]] = WeakKeyDictionary()  # immutable: each is read once a store


class Journal(Generic[D]):
    """The documents of one kind in a folder of the store, numbered from 1.

    Documents that two processes might write at the same moment must differ, in a time or a writer's id: on S3 the same
    bytes found under the number are taken for the caller's own.
    """

    def __init__(self, store: Store, folder: str, kind: type[D]) -> None:
        self.store, self.folder, self.kind = store, folder, kind

    def read(self) -> list[D]:
        """All documents, oldest first."""
        return [self._document(key) for key in self._keys()]

    def newest(self) -> D | None:
        """The last document, or None."""
        keys = self._keys()
        return self._document(keys[-1]) if keys else None

    def append(self, number: int, document: D) -> bool:
        """Write the document under the number after the last one that was read; False if another writer was first."""
        try:
            self.store.create(f"{self.folder}{number:06d}.json", render(document))
        except ObjectExists:
            return False
        return True

    def _keys(self) -> list[str]:
        return [key for key in self.store.list(self.folder) if key.endswith(".json")]

    def _document(self, key: str) -> D:
        known = _read.setdefault(self.store, {})
        found = known.get(key)
        if not isinstance(found, self.kind):
            known[key] = found = read_document(self.store, self.kind, key)
        return found
