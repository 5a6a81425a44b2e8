"""How a retrain's end is recorded, without a Prefect server."""

from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
import torch
from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Failed

from flows.retrain_model import retrain_model
from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core import policy
from tasks.core.data.dataset import ingest
from tasks.core.requests import TrainRequest
from tasks.core.settings import Settings
from tasks.core.specs import IngestSpec
from tasks.core.store import FolderStore
from tasks.core.training.checkpoints import Checkpoint, save_checkpoint
from tasks.core.training.plan import plan_training
from tasks.retrain import record_failure


@pytest.fixture
def failure() -> State[object]:
    return Failed(message="stage train-lora did not complete")


def fail(state: State[object], decision: str) -> None:
    run = FlowRun(flow_id=uuid4(), parameters={"spec": {"cause": "drift", "decision": decision}})
    record_failure(cast(Flow[..., object], retrain_model), run, state)


def test_a_failure_costs_what_its_training_took_and_is_told_once(
    folder: FolderStore, settings: Settings, tmp_path: Path, failure: State[object]
) -> None:
    draw_uploads(tmp_path / "store/uploads" / settings.dataset, 4, FIRST_TASTE, seed=1)
    ingest(folder, settings.dataset, IngestSpec())
    key = plan_training(folder, settings, TrainRequest()).key
    save_checkpoint(folder, key, Checkpoint(step=50, seconds=1800), {"weight": torch.zeros(2)})
    fail(failure, "first")
    fail(failure, "second")
    ends = policy.decisions(folder, settings.model)
    assert [(d.outcome, d.outcome_of, d.gpu_hours) for d in ends] == [("failed", "first", 0.5), ("failed", "second", 0)]
    assert ends[0].costs == {key: 0.5}
    assert ends[0].reason == "stage train-lora did not complete"


def test_a_failure_before_there_is_anything_to_train_on_is_recorded(
    folder: FolderStore, settings: Settings, failure: State[object]
) -> None:
    fail(failure, "first")
    (end,) = policy.decisions(folder, settings.model)
    assert (end.outcome, end.gpu_hours) == ("failed", 0.0)
