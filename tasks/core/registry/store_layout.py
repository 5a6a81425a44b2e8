"""The layout of a store and the id of its installation: the document `installation.json` at the store's root."""

from contextlib import suppress
from datetime import datetime
from uuid import uuid4

from pydantic import Field

from tasks.core import clock
from tasks.core.errors import DyeworksError, ObjectExists, ObjectMissing
from tasks.core.store import Store
from tasks.core.store.documents import Document, read_document, render

KEY = "installation.json"
LAYOUT = 2  # of this version: what a model owns lies below models/<model>/
EARLIER = ("decisions/", "results/", "drift/", "checkpoints/", "renders/", "calibrations/")  # places of layout 1


class StoreLayoutUnreadable(DyeworksError):
    """A store was written by a version of dyeworks with another layout."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"store {url} {problem}")
        self.url = url


class StoreIdentity(Document):
    """The layout of a store, and the id of the installation that it belongs to. Later versions may add fields."""

    layout: int
    id: str = Field(min_length=1)
    created: datetime


def store_identity(store: Store) -> StoreIdentity:
    """The identity of a store; an empty one gets it here, once.

    Raises:
        StoreLayoutUnreadable: the store has the layout of another version of dyeworks.
        DocumentInvalid: its document is damaged.
    """
    try:
        found = read_document(store, StoreIdentity, KEY)
    except ObjectMissing:
        _refuse_earlier(store)
        with suppress(ObjectExists):  # another process has just created it
            store.create(KEY, render(StoreIdentity(layout=LAYOUT, id=uuid4().hex, created=clock.now())))
        found = read_document(store, StoreIdentity, KEY)
    if found.layout > LAYOUT:
        problem = f"was written by a later version of dyeworks (layout {found.layout}, not {LAYOUT}): update dyeworks"
        raise StoreLayoutUnreadable(store.url, problem)
    return found


def _refuse_earlier(store: Store) -> None:
    for place in EARLIER:
        if key := next(iter(store.list(place)), ""):
            problem = f"was written by dyeworks before 0.2.0 (it has {key}), whose layout this version does not read"
            advice = "take an empty store, its uploads/ and prompts/ can be copied into it, or stay with that version"
            raise StoreLayoutUnreadable(store.url, f"{problem}: {advice}")
