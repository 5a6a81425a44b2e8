"""Everything that follows from the ledger is put right: channels, events, other places, MLflow's registry.

A projection is left behind by whatever was killed between the ledger and it; each is made of the whole ledger again.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from tasks.core.config.model import ModelConfig
from tasks.core.errors import DyeworksError, ReconcileFailed, StoreConflict
from tasks.core.installation import Installation
from tasks.core.lifecycle.announcements import lost_events
from tasks.core.lifecycle.roll_back import leave_withdrawn
from tasks.core.lifecycle.withdraw import delete_weights, finish_records
from tasks.core.outbox import queue, send_all
from tasks.core.publishing import mlflow_registry
from tasks.core.publishing.places import PublishingPlace, doors
from tasks.core.registry.channel import point, points_at, read_channel
from tasks.core.registry.ledger import champion
from tasks.core.registry.releases import verify_release
from tasks.core.registry.withdrawals import deletions, withdrawals

Projection = Callable[[Installation, ModelConfig], Iterator[str]]  # does it, and says what it did


def reconcile(installation: Installation, model: ModelConfig) -> tuple[str, ...]:
    """Put all projections right, the channel first; in words what was changed.

    Raises:
        ReconcileFailed: some could not be put right; the others were.
    """
    changes, faults = list[str](), list[DyeworksError]()
    for project in _projections(installation, model):
        try:
            for said in project(installation, model):
                changes.append(said)
        except DyeworksError as error:
            faults.append(error)
    if faults:
        raise ReconcileFailed(faults, tuple(changes))
    return tuple(changes)


def _projections(installation: Installation, model: ModelConfig) -> list[Projection]:
    """Each is tried by itself, and so is each place: one that is down keeps no other waiting."""
    places = [partial(_place, door) for door in doors(installation, model)]
    return [_no_withdrawn_champion, _channel, _events, _weights, *places, _registry]


def _no_withdrawn_champion(installation: Installation, model: ModelConfig) -> Iterator[str]:
    """A release that was withdrawn while it was promoted is left, and one whose withdrawal was cut off."""
    finish_records(installation, model)
    if entry := leave_withdrawn(installation, model):
        yield f"generation {entry.generation}: {entry.reason}"


def _channel(installation: Installation, model: ModelConfig) -> Iterator[str]:
    """The champion channel, wherever it points: it is read first, so that it is never ahead of the ledger."""
    while True:
        current, version = read_channel(installation.store, model.name)
        entry = champion(installation.store, model.name)
        if entry is None or points_at(current, entry):
            return
        if entry.release:
            verify_release(installation.store, model.name, entry.release)
        with suppress(StoreConflict):
            point(installation.store, model.name, entry, current, version)
            yield f"the champion channel points at generation {entry.generation}"


def _events(installation: Installation, model: ModelConfig) -> Iterator[str]:
    """Events that were lost after their record was made, and those that wait; and what people have to look at."""
    for event in lost_events(installation.store, model.name):
        queue(installation.store, event)
        yield f"event {event.event} of {event.id} was lost and is queued again"
    for fault in send_all(installation.store).faults.values():
        yield str(fault)
    if aside := len(list(installation.store.list("refused/"))):
        yield f"{aside} events lie in refused/ and are not sent; delete them, or move them to outbox/ to send them"


def _weights(installation: Installation, model: ModelConfig) -> Iterator[str]:
    """Weights that were to be deleted with a withdrawal, and still are there."""
    for withdrawal in deletions(installation.store, model.name):
        if gone := delete_weights(installation, model, withdrawal):
            yield f"release {withdrawal.release} was withdrawn: {gone} objects deleted"


def _place(door: Callable[[], PublishingPlace], installation: Installation, model: ModelConfig) -> Iterator[str]:
    """Another place; what was withdrawn is marked there too."""
    entry = champion(installation.store, model.name)
    if entry is None:
        return
    place = door()
    if not place.serves(entry):
        place.publish(entry)
        yield f"generation {entry.generation} published to {place.name}"
    doomed = {withdrawal.release for withdrawal in deletions(installation.store, model.name)}
    for withdrawal in withdrawals(installation.store, model.name):
        place.withdraw(withdrawal, delete=withdrawal.release in doomed)


def _registry(installation: Installation, model: ModelConfig) -> Iterator[str]:
    """MLflow's versions and aliases."""
    yield from mlflow_registry.sync_mlflow_registry(installation, model)
