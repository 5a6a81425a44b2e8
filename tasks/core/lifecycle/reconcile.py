"""Reconciliation of everything derived from the ledger: channels, events, other places, MLflow's registry.

A process killed after a ledger entry leaves projections stale; each is derived from the whole ledger again.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from tasks.core.config.model import ModelConfig
from tasks.core.errors import DyeworksError, ReconcileFailed, StoreConflict
from tasks.core.installation import Installation
from tasks.core.lifecycle.announcements import lost_events
from tasks.core.lifecycle.roll_back import roll_back_withdrawn
from tasks.core.lifecycle.withdraw import delete_weights, finish_records
from tasks.core.outbox import queue, send_all
from tasks.core.publishing.targets import PublishingTarget, target_factories
from tasks.core.registry.channel import point, points_at, read_channel
from tasks.core.registry.ledger import champion
from tasks.core.registry.releases import verify_release
from tasks.core.registry.withdrawals import deletions, withdrawals

Projection = Callable[[Installation, ModelConfig], Iterator[str]]  # yields its changes, as messages


def reconcile(installation: Installation, model: ModelConfig) -> tuple[str, ...]:
    """Reconcile all projections, the channel first; returns the changes, as messages.

    Raises:
        ReconcileFailed: some failed; the others were reconciled.
    """
    changes, faults = list[str](), list[DyeworksError]()
    for project in _projections(installation, model):
        try:
            for change in project(installation, model):
                changes.append(change)
        except DyeworksError as error:
            faults.append(error)
    if faults:
        raise ReconcileFailed(faults, tuple(changes))
    return tuple(changes)


def _projections(installation: Installation, model: ModelConfig) -> list[Projection]:
    """Each runs independently, and so does each place: one that is down does not block others."""
    places = [partial(_place, open_place) for open_place in target_factories(installation, model)]
    return [_no_withdrawn_champion, _channel, _events, _weights, *places, _registry]


def _no_withdrawn_champion(installation: Installation, model: ModelConfig) -> Iterator[str]:
    """Roll back a release that was withdrawn during its promotion, or whose withdrawal was interrupted."""
    finish_records(installation, model)
    if entry := roll_back_withdrawn(installation, model):
        yield f"generation {entry.generation}: {entry.reason}"


def _channel(installation: Installation, model: ModelConfig) -> Iterator[str]:
    """The champion channel; it is read before the ledger, so that it is never ahead of it."""
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
    """Events lost after their record was written, and queued ones; reports those that an operator must handle."""
    for event in lost_events(installation.store, model.name):
        queue(installation.store, event)
        yield f"event {event.event} of {event.id} was lost and is queued again"
    for fault in send_all(installation.store, installation.server).faults.values():
        yield str(fault)
    if refused := len(list(installation.store.list("refused/"))):
        yield f"{refused} events in refused/ are not sent; delete them, or move them to outbox/ to send them"


def _weights(installation: Installation, model: ModelConfig) -> Iterator[str]:
    """Weights of withdrawn releases that remain to be deleted."""
    for withdrawal in deletions(installation.store, model.name):
        if gone := delete_weights(installation, model, withdrawal):
            yield f"release {withdrawal.release} was withdrawn: {gone} objects deleted"


def _place(open_place: Callable[[], PublishingTarget], installation: Installation, model: ModelConfig) -> Iterator[str]:
    """Another place, with its marks of withdrawn releases."""
    entry = champion(installation.store, model.name)
    if entry is None:
        return
    place = open_place()
    if not place.serves(entry):
        place.publish(entry)
        yield f"generation {entry.generation} published to {place.name}"
    deleted = {withdrawal.release for withdrawal in deletions(installation.store, model.name)}
    for withdrawal in withdrawals(installation.store, model.name):
        place.withdraw(withdrawal, delete=withdrawal.release in deleted)


def _registry(installation: Installation, model: ModelConfig) -> Iterator[str]:
    """MLflow's versions and aliases."""
    from tasks.core.publishing.mlflow_registry import sync_mlflow_registry  # noqa: PLC0415  late: it imports mlflow

    yield from sync_mlflow_registry(installation, model)
