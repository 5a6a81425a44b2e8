"""Runs on a real Prefect server: named and tagged by their model, and rejected if the model is ambiguous."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.testing.utilities import prefect_test_harness

from flows.ingest_upload import ingest_upload
from flows.steer_retraining import steer_retraining
from flows.train_lora import train_lora
from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks import stages
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import IngestRequest, ModelRequest, SteerRequest, TrainRequest
from tasks.core.errors import DatasetUnusable, ModelUnknown, PlanMismatch, StageFailed
from tasks.core.registry.models import apply_config
from tasks.core.retraining.decisions import read_decisions
from tasks.core.store import FolderStore
from tasks.labels import stage_name
from tests.adire import adire

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=400):
        yield


def newest() -> FlowRun:
    """The newest run, in its final state."""
    with get_client(sync_client=True) as client:
        (found,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
    return found


def label() -> tuple[str, list[str]]:
    """Name and tags of the newest run."""
    run = newest()
    return run.name, run.tags


def test_run_is_labelled_by_the_only_model_and_its_subject(applied: ModelConfig) -> None:
    steer_retraining(SteerRequest(action="pause", reason="the show opens"))
    assert label() == ("steer-retraining adire pause", ["model:adire"])
    with pytest.raises(DatasetUnusable):
        train_lora(TrainRequest(model="adire", key="3f2ac0ffee"))
    assert label() == ("train-lora adire 3f2a", ["model:adire"])


def test_ingest_is_named_by_its_dataset(applied: ModelConfig) -> None:
    with pytest.raises(DatasetUnusable, match="holds no picture"):
        ingest_upload(IngestRequest(dataset="adire"))
    assert label() == ("ingest-upload adire", [])


def test_stage_keeps_the_name_given_by_its_retrain(applied: ModelConfig) -> None:
    name = stage_name("adire", "train-lora", "3f2ac0ffee", 2)
    with pytest.raises(DatasetUnusable):
        train_lora.with_options(flow_run_name=name)(TrainRequest(key="3f2ac0ffee"))
    assert label() == ("retrain adire: train-lora 3f2a #2", ["model:adire"])


def test_stage_with_another_plan_than_its_parent_fails_before_training(
    applied: ModelConfig, folder: FolderStore, tmp_path: Path
) -> None:
    draw_uploads(tmp_path / "store/uploads" / applied.dataset, 4, FIRST_TASTE, seed=1)
    ingest_upload(IngestRequest(dataset=applied.dataset))
    with pytest.raises(PlanMismatch):
        train_lora(TrainRequest(key="3f2ac0ffee"))
    state = newest().state
    assert state is not None
    assert (state.is_failed(), "train-lora was planned as 3f2ac0ffee" in (state.message or "")) == (True, True)
    assert list(folder.list("models/adire/checkpoints/")) == []


def test_request_without_a_model_fails_with_the_list_of_models(applied: ModelConfig, folder: FolderStore) -> None:
    apply_config(folder, adire(name="indigo"))
    with pytest.raises(ModelUnknown):
        steer_retraining(SteerRequest(action="pause"))
    run = newest()
    assert (run.name, run.tags) == ("steer-retraining pause", [])
    assert run.state is not None
    assert run.state.is_failed()
    assert "name a model; there are adire, indigo" in (run.state.message or "")
    steer_retraining(SteerRequest(model="indigo", action="pause"))
    assert label() == ("steer-retraining indigo pause", ["model:indigo"])
    assert [decision.action for decision in read_decisions(folder, "indigo")] == ["pause"]
    assert read_decisions(folder, "adire") == []


def test_stage_is_joined_again_when_the_server_could_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception] = [
        TimeoutError("timed out"),
        ConnectionError("reset"),
        StageFailed("train-lora", "r", "m"),
    ]

    def ask(attempts: list[str]) -> dict[str, bool]:
        raise answers.pop(0)

    @flow
    def parent() -> None:
        stages.run_stage.with_options(retry_delay_seconds=0)("train-lora", ModelRequest(model="adire"), "key")

    monkeypatch.setattr(stages, "_existing", ask)
    state = parent(return_state=True)
    assert answers == [], "a stage that failed is not tried again"
    assert "StageFailed" in str(state.message)
