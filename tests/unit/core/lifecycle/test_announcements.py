"""First the record, then the event: one that was lost in between is found by its record, once."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.core import clock
from tasks.core.config.installation import Settings
from tasks.core.config.requests import PromoteRequest
from tasks.core.lifecycle.announcements import decision_events, lost_events, promotion_event, publication_event
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.reconcile import reconcile
from tasks.core.outbox import known, send_all
from tasks.core.registry import ledger
from tasks.core.registry.channel import flip
from tasks.core.retraining.decisions import Action, Cause, RetrainDecision, make_decision, record_decision
from tasks.core.store import FolderStore
from tests.candidates import evaluated
from tests.events_server import EventsServer

SOON = timedelta(minutes=10)


def later(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + by)


def decided(
    store: FolderStore, settings: Settings, cause: Cause, action: Action, ago: timedelta = SOON, ended: bool = False
) -> RetrainDecision:
    decision = make_decision(cause, clock.now() - ago, (action, "because"), "v1", dataset="cloth", dataset_version="v1")
    record_decision(store, settings.model, decision)
    if ended:
        end = make_decision("outcome", clock.now(), ("none", "won"), "v1", outcome_of=decision.id, outcome="promote")
        record_decision(store, settings.model, end)
    return decision


def test_an_event_that_was_lost_after_its_record_is_sent_by_reconcile_once(
    events: EventsServer, folder: FolderStore, settings: Settings
) -> None:
    decision = decided(folder, settings, "data", "retrain")
    changes = reconcile(folder, settings)
    (sent,) = events.events
    assert sent["event"] == "dyeworks.dataset.ready"
    assert sent["resource"]["dyeworks.action"] == "retrain"
    assert (sent["payload"]["decision"], sent["payload"]["dataset"]) == (decision.id, "cloth")
    assert changes == (f"event dyeworks.dataset.ready of {sent['id']} was lost and is queued again",)
    assert reconcile(folder, settings) == ()
    assert len(events.events) == 1


def test_what_is_declined_and_what_drifted_are_told_too(folder: FolderStore, settings: Settings) -> None:
    made: list[tuple[Cause, Action]] = [("data", "declined"), ("drift", "retrain"), ("drift", "declined")]
    for cause, action in made:
        decided(folder, settings, cause, action)
    names = sorted(event.event.removeprefix("dyeworks.") for event in lost_events(folder, settings))
    assert names == ["dataset.ready", "drift.detected", "retrain.declined", "retrain.declined"]


def test_what_is_young_old_over_or_of_no_cause_is_not_told(folder: FolderStore, settings: Settings) -> None:
    decided(folder, settings, "data", "retrain", timedelta(seconds=1))
    decided(folder, settings, "data", "retrain", timedelta(days=2))
    decided(folder, settings, "data", "retrain", ended=True)
    decided(folder, settings, "drift", "none")
    decided(folder, settings, "operator", "pause")
    assert lost_events(folder, settings) == []


def test_a_promotion_and_a_publication_that_nobody_was_told_of(
    folder: FolderStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    won = promote(folder, settings, PromoteRequest(evaluation=evaluated(folder, "mine", 0)))
    entry = ledger.champion(folder, settings.model)
    assert entry
    flip(folder, settings.model, entry)
    assert lost_events(folder, settings) == [], "whoever promoted is about to send them"
    later(monkeypatch, timedelta(days=2))
    assert lost_events(folder, settings) == [], "they are no news"
    later(monkeypatch, SOON)
    promoted, published = lost_events(folder, settings)
    model, reason = settings.model, won.decision.reason
    assert promoted.id == promotion_event(model, 1, won.release, reason).id
    assert published.id == publication_event(model, 1, won.release, reason).id


def test_reconcile_says_what_waits_and_what_was_put_aside(
    events: EventsServer, folder: FolderStore, settings: Settings
) -> None:
    first = decided(folder, settings, "drift", "retrain")
    second = decided(folder, settings, "drift", "declined", SOON * 2)
    (lost_first,), (lost_second,) = decision_events(settings.model, first), decision_events(settings.model, second)
    events.refuse = {lost_first.id: 500, lost_second.id: 422}
    said = "\n".join(reconcile(folder, settings))
    assert "event dyeworks.drift.detected was not taken (the answer was 500" in said
    assert "1 events lie in refused/" in said
    events.refuse = {}
    assert send_all(folder).number == 1
    assert known(folder) == {lost_first.id, lost_second.id}
