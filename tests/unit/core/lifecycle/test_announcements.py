"""Records are written before events: an event lost in between is found by its record, once."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest
from tasks.core.events import PAYLOADS, Name
from tasks.core.lifecycle.announcements import decision_events, lost_events, promotion_event, publication_event
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.reconcile import reconcile
from tasks.core.outbox import known, send_all
from tasks.core.registry import ledger
from tasks.core.registry.channel import flip
from tasks.core.retraining.decisions import Action, Cause, RetrainDecision, make_decision, record_decision
from tasks.core.store import FolderStore
from tests.adire import installed
from tests.candidates import evaluated
from tests.events_server import EventsServer

pytestmark = pytest.mark.usefixtures("mlflow_home")  # else MLflow writes into the working folder

SOON = timedelta(minutes=10)


def later(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + by)


def decided(
    store: FolderStore, model: ModelConfig, cause: Cause, action: Action, ago: timedelta = SOON, ended: bool = False
) -> RetrainDecision:
    time = clock.now() - ago
    made = make_decision(cause, time, (action, "because"), str(time), dataset="cloth", dataset_version="v1")
    decision = record_decision(store, model.name, made)
    if ended:
        about = {"outcome_of": decision.id, "outcome": "promote"}
        end = make_decision("outcome", clock.now(), ("none", "won"), decision.id).model_copy(update=about)
        record_decision(store, model.name, end)
    return decision


def test_an_event_lost_after_its_record_is_sent_by_reconcile_once(
    events: EventsServer, folder: FolderStore, model: ModelConfig
) -> None:
    decision = decided(folder, model, "data", "retrain")
    changes = reconcile(installed(folder), model)
    (sent,) = events.events
    assert sent["event"] == "dyeworks.dataset.ready"
    assert sent["resource"]["dyeworks.action"] == "retrain"
    assert (sent["payload"]["decision"], sent["payload"]["dataset"]) == (decision.id, "cloth")
    assert changes == (f"event dyeworks.dataset.ready of {sent['id']} was lost and is queued again",)
    assert reconcile(installed(folder), model) == ()
    assert len(events.events) == 1


def test_declined_decisions_and_drifts_have_events_too(folder: FolderStore, model: ModelConfig) -> None:
    made: list[tuple[Cause, Action]] = [("data", "declined"), ("drift", "retrain"), ("drift", "declined")]
    for cause, action in made:
        decided(folder, model, cause, action)
    names = sorted(event.event.removeprefix("dyeworks.") for event in lost_events(folder, model.name))
    assert names == ["dataset.ready", "drift.detected", "retrain.declined", "retrain.declined"]


def test_each_event_carries_the_payload_that_is_declared_for_it(folder: FolderStore, model: ModelConfig) -> None:
    made: list[tuple[Cause, Action]] = [("data", "retrain"), ("drift", "retrain"), ("drift", "declined")]
    events = [e for how in made for e in decision_events(model.name, decided(folder, model, *how))]
    events += [promotion_event(model.name, 2, "r", "won"), publication_event(model.name, 2, "r", "won")]
    unhealthy: Name = "dyeworks.champion.unhealthy"
    assert {event.event for event in events} == set(PAYLOADS) - {unhealthy}
    for event in events:
        assert set(event.payload) == set(PAYLOADS[event.event].model_fields) | {"model"}, event.event


def test_young_old_and_completed_records_are_skipped(folder: FolderStore, model: ModelConfig) -> None:
    decided(folder, model, "data", "retrain", timedelta(seconds=1))
    decided(folder, model, "data", "retrain", timedelta(days=2))
    decided(folder, model, "data", "retrain", ended=True)
    decided(folder, model, "drift", "none")
    decided(folder, model, "operator", "pause")
    assert lost_events(folder, model.name) == []


def test_lost_events_of_a_promotion_and_a_publication_are_found(
    folder: FolderStore, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    won = promote(installed(folder), model, PromoteRequest(evaluation=evaluated(folder, "mine", 0)))
    entry = ledger.champion(folder, model.name)
    assert entry
    flip(folder, model.name, entry)
    assert lost_events(folder, model.name) == [], "the promoting process is about to send them"
    later(monkeypatch, timedelta(days=2))
    assert lost_events(folder, model.name) == [], "they are too old"
    later(monkeypatch, SOON)
    promoted, published = lost_events(folder, model.name)
    name, reason = model.name, won.decision.reason
    assert promoted.id == promotion_event(name, 1, won.release, reason).id
    assert published.id == publication_event(name, 1, won.release, reason).id


def test_reconcile_reports_queued_and_refused_events(
    events: EventsServer, folder: FolderStore, model: ModelConfig
) -> None:
    first = decided(folder, model, "drift", "retrain")
    second = decided(folder, model, "drift", "declined", SOON * 2)
    (lost_first,), (lost_second,) = decision_events(model.name, first), decision_events(model.name, second)
    events.refuse = {lost_first.id: 500, lost_second.id: 422}
    changes = "\n".join(reconcile(installed(folder), model))
    assert "event dyeworks.drift.detected was not delivered (the answer was 500" in changes
    assert "1 events in refused/" in changes
    events.refuse = {}
    assert send_all(folder, events.prefect).number == 1
    assert known(folder, clock.now() - timedelta(minutes=1)) == {lost_first.id, lost_second.id}
