"""Notifications in the store: pending from their arrival until an event of theirs is queued, then seen.

A notification is pending before its request is answered, and seen before it is no longer pending: whenever the process
is killed, none is lost, and one that is delivered again starts nothing.
"""

from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from uuid import uuid4

from tasks.core.data.parallel import in_order
from tasks.core.errors import ObjectExists
from tasks.core.events import Uploaded, upload_event
from tasks.core.outbox import queue
from tasks.core.store import Store
from tasks.core.store.documents import digest

PENDING = "pending/"
SEEN = "notifications/seen/"  # by identity; may be deleted once no sender delivers them again
EARLIER = "notifications/"  # where version 0.2.0 has put what was seen
READY = "ready-"  # names of pending notifications that end their burst start with this
WRITERS = 16  # requests to the store at once


class Inbox:
    """The notifications of a store. Names are identities, after `READY` for those that end a burst."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, dataset: str, identity: str, *, ready: bool) -> str:
        """Keep a notification; returns its name, which is empty if it was delivered before."""
        name = READY * ready + identity
        if self.store.exists(SEEN + identity) or self.store.exists(EARLIER + identity):
            return ""
        with suppress(ObjectExists):
            self.store.create(f"{PENDING}{dataset}/{name}", uuid4().hex.encode())
            return name
        return ""

    def pending(self, dataset: str = "") -> dict[str, set[str]]:
        """The names of pending notifications, of all datasets if none is named."""
        found = defaultdict[str, set[str]](set)
        for key in self.store.list(PENDING + (f"{dataset}/" if dataset else "")):
            owner, _, name = key.removeprefix(PENDING).partition("/")
            found[owner].add(name)
        return found

    def settle(self, dataset: str, names: Collection[str]) -> None:
        """Queue one event for pending notifications of a dataset. The same ones give the same event."""
        payload = Uploaded(reason=f"{uploads_in(names)} objects were uploaded", dataset=dataset)
        queue(self.store, upload_event(payload, key=digest(dataset, *sorted(names))))
        for _ in in_order(self._see, names, WRITERS):
            pass
        self.store.delete_many(f"{PENDING}{dataset}/{name}" for name in names)

    def _see(self, name: str) -> None:
        self.store.write(SEEN + name.removeprefix(READY), b"")


def uploads_in(names: Collection[str]) -> int:
    """How many of these notifications are of uploads, and do not end a burst."""
    return sum(not name.startswith(READY) for name in names)
