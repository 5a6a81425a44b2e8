"""Withdrawn releases, each record under the release's name; records are immutable."""

from contextlib import suppress
from datetime import datetime

from tasks.core.errors import ObjectExists, ObjectMissing, ReleaseWithdrawn
from tasks.core.store import Store
from tasks.core.store.documents import Document, read_document, read_documents, render


class Withdrawal(Document):
    """Who withdrew a release, when and why."""

    release: str
    training: str  # of the release; other releases of the same LoRA are withdrawn too
    actor: str
    reason: str
    time: datetime


def _prefix(model: str) -> str:
    return f"models/{model}/withdrawals/"


def _deletions(model: str) -> str:
    return f"models/{model}/deletions/"


def withdrawals(store: Store, model: str) -> list[Withdrawal]:
    """All withdrawals of a model."""
    return list(read_documents(store, Withdrawal, _prefix(model)))


def find_withdrawal(store: Store, model: str, release: str) -> Withdrawal | None:
    """The withdrawal of a release, or None."""
    try:
        return read_document(store, Withdrawal, f"{_prefix(model)}{release}.json")
    except ObjectMissing:
        return None


def record_withdrawal(store: Store, model: str, withdrawal: Withdrawal) -> Withdrawal:
    """Store a withdrawal, unless there is one; returns the stored one."""
    key = f"{_prefix(model)}{withdrawal.release}.json"
    try:
        store.create(key, render(withdrawal))
    except ObjectExists:
        return read_document(store, Withdrawal, key)
    return withdrawal


def request_deletion(store: Store, model: str, withdrawal: Withdrawal) -> None:
    """Record that a release's weights must be deleted, so that `reconcile` can finish an interrupted withdrawal."""
    with suppress(ObjectExists):
        store.create(f"{_deletions(model)}{withdrawal.release}.json", render(withdrawal))


def deletions(store: Store, model: str) -> list[Withdrawal]:
    """The withdrawals whose weights must be deleted; they may not be recorded yet."""
    return list(read_documents(store, Withdrawal, _deletions(model)))


def refuse_withdrawn(store: Store, model: str, release: str) -> None:
    """Raise ReleaseWithdrawn for a withdrawn release."""
    if found := find_withdrawal(store, model, release):
        raise ReleaseWithdrawn(release, found.actor, found.reason)


def refuse_training(store: Store, model: str, training: str) -> None:
    """Raise ReleaseWithdrawn for the training of a withdrawn release."""
    for found in withdrawals(store, model):
        if found.training == training:
            raise ReleaseWithdrawn(found.release, found.actor, found.reason, training)
