"""Everything that follows from the ledger is put right: channels, events, other places, MLflow's registry.

A projection is left behind by whatever was killed between the ledger and it; each is made of the whole ledger again.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from tasks.core.config.installation import Settings
from tasks.core.errors import DyeworksError, ReconcileFailed, StoreConflict
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
from tasks.core.store import Store

Projection = Callable[[Store, Settings], Iterator[str]]  # does it, and says what it did


def reconcile(store: Store, settings: Settings) -> tuple[str, ...]:
    """Put all projections right, the channel first; in words what was changed.

    Raises:
        ReconcileFailed: some could not be put right; the others were.
    """
    changes, faults = list[str](), list[DyeworksError]()
    for project in _projections(store, settings):
        try:
            for said in project(store, settings):
                changes.append(said)
        except DyeworksError as error:
            faults.append(error)
    if faults:
        raise ReconcileFailed(faults, tuple(changes))
    return tuple(changes)


def _projections(store: Store, settings: Settings) -> list[Projection]:
    """Each is tried by itself, and so is each place: one that is down keeps no other waiting."""
    places = [partial(_place, door) for door in doors(store, settings)]
    return [_no_withdrawn_champion, _channel, _events, _weights, *places, _registry]


def _no_withdrawn_champion(store: Store, settings: Settings) -> Iterator[str]:
    """A release that was withdrawn while it was promoted is left, and one whose withdrawal was cut off."""
    finish_records(store, settings)
    if entry := leave_withdrawn(store, settings):
        yield f"generation {entry.generation}: {entry.reason}"


def _channel(store: Store, settings: Settings) -> Iterator[str]:
    """The champion channel, wherever it points: it is read first, so that it is never ahead of the ledger."""
    while True:
        current, version = read_channel(store, settings.model)
        entry = champion(store, settings.model)
        if entry is None or points_at(current, entry):
            return
        if entry.release:
            verify_release(store, settings.model, entry.release)
        with suppress(StoreConflict):
            point(store, settings.model, entry, current, version)
            yield f"the champion channel points at generation {entry.generation}"


def _events(store: Store, settings: Settings) -> Iterator[str]:
    """Events that were lost after their record was made, and those that wait; and what people have to look at."""
    for event in lost_events(store, settings):
        queue(store, event)
        yield f"event {event.event} of {event.id} was lost and is queued again"
    for fault in send_all(store).faults.values():
        yield str(fault)
    if aside := len(list(store.list("refused/"))):
        yield f"{aside} events lie in refused/ and are not sent; delete them, or move them to outbox/ to send them"


def _weights(store: Store, settings: Settings) -> Iterator[str]:
    """Weights that were to be deleted with a withdrawal, and still are there."""
    for withdrawal in deletions(store, settings.model):
        if gone := delete_weights(store, settings, withdrawal):
            yield f"release {withdrawal.release} was withdrawn: {gone} objects deleted"


def _place(door: Callable[[], PublishingPlace], store: Store, settings: Settings) -> Iterator[str]:
    """Another place; what was withdrawn is marked there too."""
    entry = champion(store, settings.model)
    if entry is None:
        return
    place = door()
    if not place.serves(entry):
        place.publish(entry)
        yield f"generation {entry.generation} published to {place.name}"
    doomed = {withdrawal.release for withdrawal in deletions(store, settings.model)}
    for withdrawal in withdrawals(store, settings.model):
        place.withdraw(withdrawal, delete=withdrawal.release in doomed)


def _registry(store: Store, settings: Settings) -> Iterator[str]:
    """MLflow's versions and aliases."""
    yield from mlflow_registry.sync_mlflow_registry(store, settings)
