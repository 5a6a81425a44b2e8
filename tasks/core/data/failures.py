"""The last ingest of a dataset, where it made no version: why, and of which uploads. One that makes one removes it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from tasks.core import clock
from tasks.core.data.file_kinds import may_enter
from tasks.core.errors import DatasetUnusable, ObjectMissing
from tasks.core.store import Listed, Store
from tasks.core.store.documents import Document, digest, read_document, render

MOST_FAULTS = 20
WIDTH = 1000  # characters of a fault


class FailedIngest(Document):
    """Why uploads became no version."""

    dataset: str
    time: datetime
    faults: tuple[str, ...]
    more: int = 0  # faults that are left out
    listing: str = ""  # digest of the uploads that were tried

    @property
    def problem(self) -> str:
        """All faults in one line."""
        more = [f"and {self.more} more"] if self.more else []
        return "; ".join([*self.faults, *more])


class IngestAttempt:
    """An ingest while it runs."""

    def __init__(self, store: Store, dataset: str) -> None:
        self.store, self.dataset = store, dataset
        self.listed: Mapping[str, Listed] = {}  # the uploads by their names, once they are listed

    @contextmanager
    def recorded(self) -> "Iterator[IngestAttempt]":
        """Record why the dataset cannot be used, or remove the record of an earlier failure."""
        try:
            yield self
        except DatasetUnusable as error:
            self.store.write(failure_key(self.dataset), render(self._failed(error.faults)))
            raise
        if self.store.exists(failure_key(self.dataset)):
            self.store.delete(failure_key(self.dataset))

    def _failed(self, faults: list[str]) -> FailedIngest:
        return FailedIngest(
            dataset=self.dataset,
            time=clock.now(),
            faults=tuple(fault[:WIDTH] for fault in faults[:MOST_FAULTS]),
            more=max(0, len(faults) - MOST_FAULTS),
            listing=listing_digest(self.listed),
        )


def failure_key(dataset: str) -> str:
    """Key of the record."""
    return f"datasets/{dataset}/failed.json"


def last_failure(store: Store, dataset: str) -> FailedIngest | None:
    """The last ingest, if it made no version."""
    try:
        return read_document(store, FailedIngest, failure_key(dataset))
    except ObjectMissing:
        return None


def listing_digest(listed: Mapping[str, Listed]) -> str:
    """Digest of the uploads that may enter a dataset, by name, size, time and tag."""
    found = (f"{name} {one.size} {one.time} {one.tag}" for name, one in sorted(listed.items()) if may_enter(name))
    return digest(*found)
