"""A store that counts the requests it would take of an S3 server."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from tasks.core.store import Listed, Store

PAGE = 1000  # keys that a server lists, and deletes, with one request


class CountingStore:
    """Passes everything on to another store; `requests` are by method and place (the first three parts of the key)."""

    def __init__(self, store: Store) -> None:
        self._store, self.url = store, store.url
        self.forget()

    def forget(self) -> None:
        """Count from nothing."""
        self.requests: Counter[str] = Counter()
        self.keys: defaultdict[str, list[str]] = defaultdict(list)  # by method; of a listing the prefix

    def count(self, method: str, key: str, number: int = 1) -> None:
        """Add requests."""
        self.keys[method] += [key] * number
        self.requests[f"{method} {'/'.join(key.split('/')[:3])}"] += number

    def read(self, key: str) -> bytes:
        """As the store does."""
        self.count("read", key)
        return self._store.read(key)

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """As the store does."""
        self.count("read", key)
        return self._store.read_versioned(key)

    def read_within(self, key: str, most: int) -> bytes:
        """As the store does."""
        self.count("read", key)
        return self._store.read_within(key, most)

    def write(self, key: str, data: bytes) -> None:
        """As the store does."""
        self.count("write", key)
        self._store.write(key, data)

    def create(self, key: str, data: bytes) -> None:
        """As the store does."""
        self.count("write", key)
        self._store.create(key, data)

    def swap(self, key: str, data: bytes, version: str | None) -> None:
        """As the store does."""
        self.count("write", key)
        self._store.swap(key, data, version)

    def exists(self, key: str) -> bool:
        """As the store does."""
        self.count("exists", key)
        return self._store.exists(key)

    def stat(self, key: str) -> Listed:
        """As the store does."""
        self.count("exists", key)
        return self._store.stat(key)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """As the store does; a request for each page."""
        return (found.key for found in self.scan(prefix, after))

    def scan(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """As the store does; a request for each page."""
        return self._paged(prefix, [*self._store.scan(prefix, after)])

    def list_odd(self, prefix: str) -> Iterator[str]:
        """As the store does."""
        self.count("list", prefix)
        return self._store.list_odd(prefix)

    def folders(self, prefix: str) -> Iterator[str]:
        """As the store does; a request for each page."""
        found = [*self._store.folders(prefix)]
        self.count("list", prefix, 1 + len(found) // PAGE)
        return iter(found)

    def _paged(self, prefix: str, found: Iterable[Listed]) -> Iterator[Listed]:
        """A server is asked for each page when it is read."""
        self.count("list", prefix)
        for number, each in enumerate(found):
            if number and number % PAGE == 0:
                self.count("list", prefix)
            yield each

    def delete(self, key: str) -> None:
        """As the store does."""
        self.count("delete", key)
        self._store.delete(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        """As the store does; a request for each page."""
        for number, key in enumerate(keys):
            self.count("delete", key, number % PAGE == 0)
            self._store.delete(key)

    def purge(self, keys: Iterable[str], earlier: bool = False) -> None:
        """As the store does; two requests for each object."""
        for key in keys:
            self.count("delete", key, 2)
            self._store.purge([key], earlier)

    def tidy(self, before: datetime) -> int:
        """As the store does."""
        self.count("list", "")
        return self._store.tidy(before)

    def put_file(self, key: str, source: Path | BinaryIO) -> None:
        """As the store does."""
        self.count("write", key)
        self._store.put_file(key, source)

    def get_file(self, key: str, path: Path) -> None:
        """As the store does."""
        self.count("read", key)
        self._store.get_file(key, path)

    def sha256(self, key: str) -> str:
        """As the store does."""
        self.count("read", key)
        return self._store.sha256(key)
