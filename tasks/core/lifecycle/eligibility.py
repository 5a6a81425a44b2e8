"""Whether the ledger lets a challenger be promoted: not when it was withdrawn, nor by itself after a roll-back."""

from collections.abc import Sequence

from tasks.core.errors import ReleaseAbandoned
from tasks.core.registry.ledger import Entry
from tasks.core.registry.releases import made_from
from tasks.core.registry.withdrawals import refuse_training
from tasks.core.store import Store


def require_eligible(store: Store, model: str, entries: Sequence[Entry], training: str, asked: bool) -> None:
    """Let the LoRA of a training through to its promotion, which a person has asked for or not.

    It is known by its training: another card makes another release of it.

    Raises:
        ReleaseWithdrawn: it was taken back for good.
        ReleaseAbandoned: a roll-back left it, and no person asks for it again.
    """
    refuse_training(store, model, training)
    if not asked and (left_by := _left_by(store, model, entries, training)):
        raise ReleaseAbandoned(left_by.abandons, left_by.generation)


def _left_by(store: Store, model: str, entries: Sequence[Entry], training: str) -> Entry | None:
    """The roll-back that left this LoRA, unless it came back since."""
    known = {r: made_from(store, model, r) for r in {e.abandons for e in entries if e.abandons}}
    mine = {release for release, origin in known.items() if origin == training}
    for entry in reversed(entries if mine else ()):
        if entry.abandons in mine:
            return entry
        if entry.release and made_from(store, model, entry.release) == training:
            return None
    return None
