"""The promotion ledger, append-only: the source of truth for which release is the champion."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from weakref import WeakKeyDictionary

from tasks.core.errors import ObjectExists, PromotionLost
from tasks.core.store import Store
from tasks.core.store.documents import Document, read_document, render


class Entry(Document):
    """One generation: a promotion, or a roll-back to an older release."""

    generation: int
    model: str = ""  # set when it is appended
    action: Literal["promote", "adopt", "roll_back"]
    release: str  # empty: the bare base
    dataset_version: str
    evaluation: str = ""  # of a promotion
    restores: int = 0  # the generation that a roll-back restores
    abandons: str = ""  # the release that a roll-back abandons
    traffic_from: datetime | None = None  # start of the traffic the release was promoted on
    actor: str
    reason: str
    time: datetime


_read: WeakKeyDictionary[Store, dict[str, Entry]] = WeakKeyDictionary()  # entries are immutable: each is read once


def _prefix(model: str) -> str:
    return f"models/{model}/promotions/"


def history(store: Store, model: str) -> list[Entry]:
    """All generations, oldest first."""
    return [_entry(store, key) for key in _keys(store, model)]


def champion(store: Store, model: str) -> Entry | None:
    """The newest generation, or None."""
    keys = _keys(store, model)
    return _entry(store, keys[-1]) if keys else None


def _keys(store: Store, model: str) -> list[str]:
    return [key for key in store.list(_prefix(model)) if key.endswith(".json")]


def _entry(store: Store, key: str) -> Entry:
    known = _read.setdefault(store, {})
    if key not in known:
        known[key] = read_document(store, Entry, key)
    return known[key]


def append(store: Store, model: str, entry: Entry) -> Entry:
    """Add the next generation, and return it as it was stored; raises PromotionLost if another run was first."""
    named = entry.model_copy(update={"model": model})
    try:
        store.create(f"{_prefix(model)}{entry.generation:06d}.json", render(named))
    except ObjectExists as error:
        raise PromotionLost(entry.generation) from error
    return named


def served(entries: Sequence[Entry]) -> str:
    """The release that is served after these generations; empty: the bare base."""
    return entries[-1].release if entries else ""


def profile_generation(entries: Sequence[Entry]) -> int:
    """The generation whose drift profile is in force: a roll-back restores that of its target.

    A roll-back to the bare base has a profile of its own.
    """
    return entries[-1].restores or entries[-1].generation


def is_abandoned(entries: Sequence[Entry], release: str) -> bool:
    """Whether a roll-back abandoned the release and no later entry restored it."""
    entries_of = [e for e in entries if release in (e.release, e.abandons)]
    return bool(release and entries_of) and entries_of[-1].abandons == release
