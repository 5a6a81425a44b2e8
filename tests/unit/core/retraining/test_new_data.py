"""New data: decided on once, and again while something stood in its way."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.config.installation import Settings
from tasks.core.config.presets import IngestSpec, PolicySpec
from tasks.core.data.dataset import Manifest, ingest
from tasks.core.retraining.decisions import Action, RetrainDecision, record_decision
from tasks.core.retraining.new_data import decide_on_new_data
from tasks.core.store import FolderStore

SPEC = PolicySpec(min_new_pictures=4)


@pytest.fixture
def manifest(folder: FolderStore, settings: Settings, tmp_path: Path) -> Manifest:
    draw_uploads(tmp_path / "store/uploads" / settings.dataset, 4, FIRST_TASTE, seed=1)
    return ingest(folder, settings.dataset, IngestSpec())[0]


def say(store: FolderStore, settings: Settings, action: Action, hour: int) -> None:
    time = datetime(2026, 1, 1, hour, tzinfo=UTC)
    decision = RetrainDecision(id=f"word-{hour}", time=time, cause="operator", action=action, reason="ada")
    record_decision(store, settings.model, decision)


def test_the_first_version_starts_a_retrain_once(folder: FolderStore, settings: Settings, manifest: Manifest) -> None:
    decision = decide_on_new_data(folder, settings, manifest, SPEC)
    assert decision
    assert (decision.action, decision.new_pictures, decision.dataset) == ("retrain", 4, settings.dataset)
    record_decision(folder, settings.model, decision)
    assert decide_on_new_data(folder, settings, manifest, SPEC) is None
    assert decide_on_new_data(folder, settings, manifest, SPEC, again=True) is None


def test_what_had_to_wait_is_looked_at_again(folder: FolderStore, settings: Settings, manifest: Manifest) -> None:
    say(folder, settings, "pause", 1)
    found = decide_on_new_data(folder, settings, manifest, SPEC)
    assert found
    assert found.action == "declined"
    record_decision(folder, settings.model, found)
    assert decide_on_new_data(folder, settings, manifest, SPEC) is None, "it was told once"
    assert decide_on_new_data(folder, settings, manifest, SPEC, again=True) is None, "it still has to wait"
    say(folder, settings, "resume", 2)
    after = decide_on_new_data(folder, settings, manifest, SPEC, again=True)
    assert after
    assert after.action == "retrain"
