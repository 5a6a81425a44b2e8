"""The cost of a retrain in GPU-hours."""

from datetime import UTC, datetime

import pytest
import torch

from tasks.core.registry.results import checkpoint_folder, save_result
from tasks.core.retraining.costs import costs_of
from tasks.core.retraining.decisions import RetrainDecision, make_decision
from tasks.core.store import FolderStore
from tasks.core.store.documents import read_document
from tasks.core.training.checkpoints import Checkpoint, device_seconds, save_checkpoint
from tests.adire import NAME
from tests.candidates import evaluation_result, training_result

NOW = datetime(2026, 3, 10, tzinfo=UTC)
STATE = {"weight": torch.zeros(2)}


def trained(store: FolderStore, key: str, seconds: float) -> None:
    save_result(store, training_result(key, seconds=seconds))


def evaluated(store: FolderStore, key: str, training: str, seconds: float) -> None:
    save_result(store, evaluation_result(key, training, seconds=seconds))


def stored_before(**costs: float) -> RetrainDecision:
    return make_decision("outcome", NOW, ("none", "x"), "d", costs=costs, gpu_hours=sum(costs.values()))


def test_training_and_all_its_evaluations_count(folder: FolderStore) -> None:
    trained(folder, "a", 1800)
    evaluated(folder, "e1", "a", 360)
    evaluated(folder, "e2", "a", 720)
    evaluated(folder, "of another", "b", 9000)
    assert costs_of(folder, NAME, "a", []) == {"a": 0.5, "e1": 0.1, "e2": 0.2}


def test_no_hour_is_counted_twice(folder: FolderStore) -> None:
    trained(folder, "a", 1800)
    evaluated(folder, "e1", "a", 360)
    history = [stored_before(a=0.2), stored_before(a=0.1, other=5.0)]
    assert costs_of(folder, NAME, "a", history) == {"a": pytest.approx(0.2), "e1": 0.1}
    assert costs_of(folder, NAME, "a", [stored_before(**costs_of(folder, NAME, "a", []))]) == {}


def test_an_interrupted_training_counts_to_its_checkpoint(folder: FolderStore) -> None:
    assert costs_of(folder, NAME, "a", []) == {}
    save_checkpoint(folder, checkpoint_folder("adire", "a"), Checkpoint(step=50, seconds=900), STATE)
    save_checkpoint(folder, checkpoint_folder("adire", "a"), Checkpoint(step=100, seconds=1800), STATE)
    assert costs_of(folder, NAME, "a", []) == {"a": 0.5}


@pytest.mark.any_key
def test_a_checkpoint_knows_the_device_time_up_to_it(folder: FolderStore) -> None:
    assert device_seconds(folder, "run") == 0.0
    save_checkpoint(folder, "run", Checkpoint(step=50, seconds=12.5), STATE)
    save_checkpoint(folder, "run", Checkpoint(step=100, seconds=25.0), STATE)
    assert device_seconds(folder, "run") == 25.0
    folder.write("run/step-000100/checkpoint.json", b"{")
    assert device_seconds(folder, "run") == 12.5, "a damaged marker is skipped"


@pytest.mark.any_key
def test_what_was_stored_before_seconds_were_recorded_is_read(folder: FolderStore) -> None:
    folder.write("run/step-000050/checkpoint.json", b'{"schema_version": 1, "step": 50, "sha256": "x"}')
    assert read_document(folder, Checkpoint, "run/step-000050/checkpoint.json").seconds == 0.0
