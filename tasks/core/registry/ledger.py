"""The promotion ledger: the truth about which release is the champion. History only grows."""

from datetime import datetime
from typing import Literal

from tasks.core.documents import Document, read_documents, render
from tasks.core.errors import ObjectExists, PromotionLost
from tasks.core.store import Store


class Entry(Document):
    """One generation: a promotion, or a roll-back that names an older release."""

    generation: int
    action: Literal["promote", "adopt", "roll_back"]
    release: str  # empty: the bare base
    dataset_version: str
    evaluation: str = ""  # of a promotion
    restores: int = 0  # the generation a roll-back goes back to
    abandons: str = ""  # the release that a roll-back leaves
    traffic_from: datetime | None = None  # the traffic the release was promoted for begins here
    actor: str
    reason: str
    time: datetime


def _prefix(model: str) -> str:
    return f"models/{model}/promotions/"


def history(store: Store, model: str) -> list[Entry]:
    """All generations, oldest first."""
    return list(read_documents(store, Entry, _prefix(model)))


def champion(store: Store, model: str) -> Entry | None:
    """The newest generation; None while the bare base is served."""
    entries = history(store, model)
    return entries[-1] if entries else None


def append(store: Store, model: str, entry: Entry) -> None:
    """Add the next generation; raises PromotionLost when another run was first."""
    try:
        store.create(f"{_prefix(model)}{entry.generation:06d}.json", render(entry))
    except ObjectExists as error:
        raise PromotionLost(entry.generation) from error


def profile_generation(entries: list[Entry]) -> int:
    """The generation whose drift profile is in force: a roll-back restores that of the one it names."""
    last = entries[-1]
    return last.restores if last.action == "roll_back" else last.generation
