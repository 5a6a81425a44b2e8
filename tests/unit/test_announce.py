"""Decisions are recorded before their events: a failed event does not lose the record."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.context import announce
from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec, PolicySpec
from tasks.core.config.requests import MonitorRequest
from tasks.core.data.dataset import Manifest
from tasks.core.data.ingest import ingest
from tasks.core.events import Declined, make_event
from tasks.core.lifecycle.announcements import lost_events
from tasks.core.monitoring.records import DriftRecord
from tasks.core.retraining.decisions import RetrainDecision, read_decisions
from tasks.core.store import FolderStore
from tasks.ingest import announce_dataset
from tasks.monitor import decide_retrain, flush_outbox
from tests.adire import installed
from tests.events_server import EventsServer


@pytest.fixture
def manifest(folder: FolderStore, applied: ModelConfig, tmp_path: Path) -> Manifest:
    draw_uploads(tmp_path / "store/uploads" / applied.dataset, 4, FIRST_TASTE, seed=1)
    return ingest(folder, applied.dataset, IngestSpec())[0]


def drifted() -> DriftRecord:
    now = clock.now()
    return DriftRecord(
        key="drift/r/report.json",
        model="adire",
        time=now,
        start=now - timedelta(hours=1),
        end=now,
        generation=0,
        verdict="retrain",
        says="moons are new",
        requests=300,
        reference_requests=300,
        drift=None,
    )


def decide_on_drift() -> RetrainDecision:
    spec = PolicySpec(hits=1, of=1)
    return decide_retrain.fn(drifted(), MonitorRequest(policy=spec))


def no_outbox(store: Path) -> None:
    """Queueing an event fails, as if the process was killed there."""
    (store / "outbox").parent.mkdir(parents=True, exist_ok=True)
    (store / "outbox").write_text("a file")


def test_ingest_records_its_decision_before_its_event(
    folder: FolderStore, model: ModelConfig, tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_outbox(tmp_path / "store")
    with disable_run_logger(), pytest.raises(OSError):
        announce_dataset.fn(manifest)
    (decision,) = read_decisions(folder, model.name)
    assert decision.action == "retrain"
    with disable_run_logger():
        announce_dataset.fn(manifest)
    assert len(read_decisions(folder, model.name)) == 1, "there is no second retrain"
    (tmp_path / "store/outbox").unlink()
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(minutes=5))
    assert [event.event for event in lost_events(folder, model.name)] == ["dyeworks.dataset.ready"]


@pytest.mark.any_key  # a file where the outbox should be
def test_monitor_records_its_decision_before_its_event(
    folder: FolderStore, model: ModelConfig, tmp_path: Path, manifest: Manifest
) -> None:
    no_outbox(tmp_path / "store")
    with disable_run_logger(), pytest.raises(OSError):
        decide_on_drift()
    (decision,) = read_decisions(folder, model.name)
    assert (decision.cause, decision.action) == ("drift", "retrain")


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500])
def test_undelivered_event_fails_neither_ingest_nor_drift_check(
    folder: FolderStore, model: ModelConfig, manifest: Manifest, events: EventsServer, status: int
) -> None:
    bad = make_event("dyeworks.retrain.declined", model.name, Declined(reason="", decision=""), key="bad")
    events.refuse[bad.id] = status
    with disable_run_logger():
        announce(installed(folder), bad)
        flush_outbox.fn()
        announce_dataset.fn(manifest)
        decide_on_drift()
    sent = [] if status == 401 else ["dyeworks.dataset.ready", "dyeworks.retrain.declined"]
    assert [event["event"] for event in events.events] == sent
    assert len(read_decisions(folder, model.name)) == 2
