"""The champion channel: the pointer that the storefront follows, flipped by compare-and-swap."""

from contextlib import suppress
from datetime import datetime

from tasks.core import clock
from tasks.core.errors import ObjectMissing, StoreConflict
from tasks.core.registry.ledger import Entry
from tasks.core.store import Store
from tasks.core.store.documents import Document, parse, render


class Channel(Document):
    """The generation and release that are served."""

    release: str  # empty: the bare base
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


def keep_channel(store: Store, model: str, channel: Channel) -> None:
    """Write a pointer over any other, into a copy that has no other writer."""
    store.write(_key(model), render(channel))


def flip(store: Store, model: str, entry: Entry) -> Channel:
    """Point the channel at a generation of the ledger, unless it points at a newer one."""
    while True:
        current, version = read_channel(store, model)
        if current and (current.generation > entry.generation or points_at(current, entry)):
            return current
        with suppress(StoreConflict):  # another writer flipped it meanwhile
            return point(store, model, entry, current, version)


def points_at(channel: Channel | None, entry: Entry) -> bool:
    """Whether the channel points at this entry's generation and release."""
    return channel is not None and (channel.generation, channel.release) == (entry.generation, entry.release)


def point(store: Store, model: str, entry: Entry, current: Channel | None, version: str | None) -> Channel:
    """Compare-and-swap the pointer that was read to this generation; raises StoreConflict."""
    channel = Channel(
        release=entry.release,
        generation=entry.generation,
        previous=current.release if current else "",
        actor=entry.actor,
        time=clock.now(),
    )
    store.swap(_key(model), render(channel), version)
    return channel
