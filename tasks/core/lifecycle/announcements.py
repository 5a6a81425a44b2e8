"""Events of recorded decisions, promotions and publications.

The record is written first, then the event; an event lost in between is found here by its record.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from tasks.core import clock
from tasks.core.events import Champion, DatasetReady, Declined, DriftDetected, Event, make_event
from tasks.core.outbox import known
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import history
from tasks.core.retraining.decisions import RetrainDecision, read_decisions
from tasks.core.store import Store

YOUNG = timedelta(minutes=2)  # the process that wrote the record is about to send its event
OLD = timedelta(days=1)  # age from which events are not sent


def decision_events(model: str, decision: RetrainDecision) -> Iterator[Event]:
    """The events of a decision."""
    if decision.cause == "data":
        ready = DatasetReady(
            reason=decision.reason,
            dataset=decision.dataset,
            version=decision.dataset_version,
            new_pictures=decision.new_pictures,
            decision=decision.id,
        )
        labels: dict[str, str] = {"dyeworks.action": decision.action}
        yield make_event("dyeworks.dataset.ready", model, ready, labels, key=f"{model}-{decision.id}")
    if decision.cause == "drift" and decision.action == "retrain":
        psi = decision.psi or 0.0
        drift = DriftDetected(reason=decision.reason, psi=psi, report=decision.report, decision=decision.id)
        yield make_event("dyeworks.drift.detected", model, drift, key=f"{model}-{decision.id}")
    if decision.cause in ("data", "drift") and decision.action == "declined":
        declined = Declined(reason=decision.reason, decision=decision.id)
        yield make_event("dyeworks.retrain.declined", model, declined, key=f"{model}-{decision.id}")


def promotion_event(model: str, generation: int, release: str, reason: str) -> Event:
    """The event of a promotion by the gate or a person."""
    payload = Champion(reason=reason, generation=generation, release=release)
    return make_event("dyeworks.champion.promoted", model, payload, key=f"{model}-{generation}-{release}")


def publication_event(model: str, generation: int, release: str, reason: str) -> Event:
    """The event of a generation that is served."""
    payload = Champion(reason=reason, generation=generation, release=release)
    return make_event("dyeworks.champion.published", model, payload, key=f"{model}-{generation}")


def lost_events(store: Store, model: str) -> list[Event]:
    """The events of the last day's records that are not queued, sent or refused."""
    events = list(_expected(store, model))
    ids = known(store, clock.now() - OLD) if events else set()
    return [event for event in events if event.id not in ids]


def _expected(store: Store, model: str) -> Iterator[Event]:
    entries = history(store, model)
    made = read_decisions(store, model)
    ended = {decision.outcome_of for decision in made}
    for decision in made:
        if _is_recent(decision.time) and decision.id not in ended:
            yield from decision_events(model, decision)
    channel, _ = read_channel(store, model)
    for entry in entries:
        if not _is_recent(entry.time):
            continue
        if entry.action == "promote":
            yield promotion_event(model, entry.generation, entry.release, entry.reason)
        if channel and channel.generation == entry.generation:
            yield publication_event(model, entry.generation, entry.release, entry.reason)


def _is_recent(time: datetime) -> bool:
    return YOUNG < clock.now() - time < OLD
