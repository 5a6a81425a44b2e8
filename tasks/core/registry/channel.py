"""The champion channel: the pointer that the storefront follows, flipped by compare-and-swap."""

from datetime import datetime

from tasks.core import clock
from tasks.core.documents import Document, parse, render
from tasks.core.errors import ObjectMissing
from tasks.core.registry.ledger import Entry
from tasks.core.store import Store


class Channel(Document):
    """What is served."""

    release: str
    generation: int
    previous: str
    actor: str
    time: datetime


def _key(model: str) -> str:
    return f"models/{model}/channels/champion.json"


def read_channel(store: Store, model: str) -> tuple[Channel | None, str | None]:
    """The pointer and its version; (None, None) before the first publication."""
    try:
        data, version = store.read_versioned(_key(model))
    except ObjectMissing:
        return None, None
    return parse(Channel, data, _key(model)), version


def flip(store: Store, model: str, entry: Entry) -> Channel:
    """Point the channel at a generation of the ledger; a newer one that is there already stays.

    Raises:
        StoreConflict: another writer flipped it in between.
    """
    current, version = read_channel(store, model)
    if current and current.generation >= entry.generation:
        return current
    channel = Channel(
        release=entry.release,
        generation=entry.generation,
        previous=current.release if current else "",
        actor=entry.actor,
        time=clock.now(),
    )
    store.swap(_key(model), render(channel), version)
    return channel
