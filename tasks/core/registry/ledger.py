"""The promotion ledger, append-only: the source of truth for which release is the champion."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from tasks.core.errors import PromotionLost
from tasks.core.store import Store
from tasks.core.store.documents import Document
from tasks.core.store.journal import Journal


class Entry(Document):
    """One generation: a promotion, or a roll-back to an older release."""

    generation: int
    model: str = ""  # set when it is appended
    action: Literal["promote", "adopt", "roll_back"]
    release: str  # empty: the bare base
    training: str = ""  # of the release; empty for the bare base and an adopted release
    dataset: str = ""
    dataset_version: str  # of the training; of a roll-back: what a retrain would take, beyond which data is new
    evaluation: str = ""  # of a promotion
    restores: int = 0  # the generation that a roll-back restores
    abandons: str = ""  # the release that a roll-back abandons
    traffic_from: datetime | None = None  # start of the traffic the release was promoted on
    actor: str
    reason: str
    time: datetime


def _journal(store: Store, model: str) -> Journal[Entry]:
    return Journal(store, f"models/{model}/promotions/", Entry)


def history(store: Store, model: str) -> list[Entry]:
    """All generations, oldest first."""
    return _journal(store, model).read()


def champion(store: Store, model: str) -> Entry | None:
    """The newest generation, or None."""
    return _journal(store, model).newest()


def append(store: Store, model: str, entry: Entry) -> Entry:
    """Add the next generation, and return it as it was stored; raises PromotionLost if another run was first."""
    named = entry.model_copy(update={"model": model})
    if not _journal(store, model).append(entry.generation, named):
        raise PromotionLost(entry.generation)
    return named


def served(entries: Sequence[Entry]) -> str:
    """The release that is served after these generations; empty: the bare base."""
    return entries[-1].release if entries else ""


def training_of(entries: Sequence[Entry], release: str) -> str:
    """The training of a release of the ledger; one LoRA with two cards is two releases. Empty: it is of none."""
    return next((entry.training for entry in reversed(entries) if release and entry.release == release), "")


def profile_generation(entries: Sequence[Entry]) -> int:
    """The generation whose drift profile is in force: a roll-back restores that of its target.

    A roll-back to the bare base has a profile of its own.
    """
    return entries[-1].restores or entries[-1].generation


def is_abandoned(entries: Sequence[Entry], release: str) -> bool:
    """Whether a roll-back abandoned the release and no later entry restored it."""
    entries_of = [e for e in entries if release in (e.release, e.abandons)]
    return bool(release and entries_of) and entries_of[-1].abandons == release
