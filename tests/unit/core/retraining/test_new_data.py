"""New data: decided on once, and again after it was declined."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import Manifest
from tasks.core.data.ingest import ingest
from tasks.core.retraining.causes import decide_on_data
from tasks.core.retraining.decisions import Action, RetrainDecision, record_decision
from tasks.core.store import FolderStore
from tests.adire import adire


@pytest.fixture
def model() -> ModelConfig:
    return adire(overrides={"policy": {"min_new_pictures": 4}})


@pytest.fixture
def manifest(folder: FolderStore, model: ModelConfig, tmp_path: Path) -> Manifest:
    draw_uploads(tmp_path / "store/uploads" / model.dataset, 4, FIRST_TASTE, seed=1)
    return ingest(folder, model.dataset, IngestSpec())[0]


def record(store: FolderStore, model: ModelConfig, action: Action, hour: int) -> None:
    time = datetime(2026, 1, 1, hour, tzinfo=UTC)
    decision = RetrainDecision(id=f"word-{hour}", time=time, cause="operator", action=action, reason="ada")
    record_decision(store, model.name, decision)


def test_the_first_version_starts_a_retrain_once(folder: FolderStore, model: ModelConfig, manifest: Manifest) -> None:
    decision = decide_on_data(folder, model, manifest)
    assert decision
    assert (decision.action, decision.new_pictures, decision.dataset) == ("retrain", 4, model.dataset)
    assert decide_on_data(folder, model, manifest) is None
    assert decide_on_data(folder, model, manifest, again=True) is None


def test_a_declined_version_is_decided_on_again(folder: FolderStore, model: ModelConfig, manifest: Manifest) -> None:
    record(folder, model, "pause", 1)
    found = decide_on_data(folder, model, manifest)
    assert found
    assert found.action == "declined"
    assert decide_on_data(folder, model, manifest) is None, "it was reported once"
    assert decide_on_data(folder, model, manifest, again=True) is None, "it still has to wait"
    record(folder, model, "resume", 2)
    after = decide_on_data(folder, model, manifest, again=True)
    assert after
    assert after.action == "retrain"
