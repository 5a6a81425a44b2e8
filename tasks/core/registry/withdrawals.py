"""Releases that were taken back for good, each under its name; what is there is never changed."""

from contextlib import suppress
from datetime import datetime

from tasks.core.errors import ObjectExists, ObjectMissing, ReleaseWithdrawn
from tasks.core.store import Store
from tasks.core.store.documents import Document, read_document, read_documents, render


class Withdrawal(Document):
    """Who took a release back, when and why."""

    release: str
    training: str  # what it was made from; another release of the same LoRA counts as withdrawn too
    actor: str
    reason: str
    time: datetime


def _prefix(model: str) -> str:
    return f"models/{model}/withdrawals/"


def _deletions(model: str) -> str:
    return f"models/{model}/deletions/"


def withdrawals(store: Store, model: str) -> list[Withdrawal]:
    """All of them."""
    return list(read_documents(store, Withdrawal, _prefix(model)))


def find_withdrawal(store: Store, model: str, release: str) -> Withdrawal | None:
    """That of a release, if it was withdrawn."""
    try:
        return read_document(store, Withdrawal, f"{_prefix(model)}{release}.json")
    except ObjectMissing:
        return None


def record_withdrawal(store: Store, model: str, withdrawal: Withdrawal) -> Withdrawal:
    """Keep it, and return what is kept: the first word stands."""
    key = f"{_prefix(model)}{withdrawal.release}.json"
    try:
        store.create(key, render(withdrawal))
    except ObjectExists:
        return read_document(store, Withdrawal, key)
    return withdrawal


def ask_deletion(store: Store, model: str, withdrawal: Withdrawal) -> None:
    """Keep that the weights of a release are to be deleted with its withdrawal, so that anyone can finish it."""
    with suppress(ObjectExists):
        store.create(f"{_deletions(model)}{withdrawal.release}.json", render(withdrawal))


def deletions(store: Store, model: str) -> list[Withdrawal]:
    """The withdrawals with which weights were to be deleted; each may not be recorded yet."""
    return list(read_documents(store, Withdrawal, _deletions(model)))


def refuse_withdrawn(store: Store, model: str, release: str) -> None:
    """Raise ReleaseWithdrawn for a release that was taken back."""
    if found := find_withdrawal(store, model, release):
        raise ReleaseWithdrawn(release, found.actor, found.reason)


def refuse_training(store: Store, model: str, training: str) -> None:
    """Raise ReleaseWithdrawn for a training of which a release was taken back."""
    for found in withdrawals(store, model):
        if found.training == training:
            raise ReleaseWithdrawn(found.release, found.actor, found.reason, training)
