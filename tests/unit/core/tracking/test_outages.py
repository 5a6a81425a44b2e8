"""MLflow goes away, on a real server, and fails no training: what waits is sent later, what is lost is said."""

import signal
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.clock import Throttle
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.config.requests import TrainRequest
from tasks.core.config.training import TrainSpec, ValidationSpec
from tasks.core.data.ingest import ingest
from tasks.core.errors import Terminated
from tasks.core.store import FolderStore
from tasks.core.tracking import runs
from tasks.core.training.plan import plan_training
from tasks.core.training.run import train
from tasks.core.training.termination import raising
from tests.adire import installed
from tests.mlflow_server import MlflowServer
from tests.tiny import Diary

SPEC = TrainSpec(
    resolution=64,
    steps=4,
    batch=1,
    accumulation=1,
    rank=2,
    alpha=2,
    targets=("to_q",),
    checkpoint_every=100,
    sample_every=2,
    validation=ValidationSpec(every=0),
)


@pytest.fixture
def server(mlflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    """A running server, which the process tracks to and waits for without patience."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server, before = MlflowServer(mlflow_database, tmp_path / "artifacts", monkeypatch), mlflow.get_tracking_uri()
    server.start()
    MlflowClient(tracking_uri=server.url).search_experiments(max_results=1)  # it tracks to its database then
    mlflow.set_tracking_uri(server.url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    yield server
    server.stop()
    mlflow.set_tracking_uri(before)


class Always(Throttle):
    """Due at every look."""

    def due(self) -> bool:
        return True


def steps_of(run: str) -> list[int]:
    return [entry.step for entry in MlflowClient().get_metric_history(run, "loss")]


def test_metrics_wait_while_the_server_is_away(server: MlflowServer, request: pytest.FixtureRequest) -> None:
    tracker = runs.Tracker(lambda: runs.open_run(request.node.name, "run", "k", {}), Always())
    tracker.step(1, {"loss": 1.0})
    server.stop()
    tracker.step(2, {"loss": 0.5})
    tracker.step(3, {"loss": 0.4})
    tracker.samples(3, [Image.new("RGB", (8, 8))])
    assert len(tracker.unsent) == 2
    server.start()
    tracker.step(4, {"loss": 0.3})
    assert steps_of(tracker.run) == [1, 2, 3, 4]
    assert tracker.loss().startswith("MLflow was down: it lacks samples of step 3 (MlflowException: ")


def test_a_run_is_begun_when_the_server_comes(server: MlflowServer, request: pytest.FixtureRequest) -> None:
    server.stop()
    tracker = runs.Tracker(lambda: runs.open_run(request.node.name, "run", "k", {}), Always())
    tracker.step(1, {"loss": 1.0})
    assert tracker.run == ""
    server.start()
    tracker.step(2, {"loss": 0.5})
    assert steps_of(tracker.run) == [1, 2]
    assert tracker.loss() == ""


def test_no_more_than_so_many_metrics_wait(
    server: MlflowServer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "MOST", 3)
    server.stop()
    tracker = runs.Tracker(lambda: runs.open_run(request.node.name, "run", "k", {}), Always())
    for step in range(1, 6):
        tracker.step(step, {"loss": 1.0})
    assert "it lacks 5 metrics" in tracker.loss()
    server.start()
    tracker.send()
    assert steps_of(tracker.run) == [3, 4, 5]
    assert "it lacks 2 metrics" in tracker.loss()


class Evicted(Diary):
    """Gets SIGTERM at a step, once."""

    at = 2

    def step(self, step: int, metrics: dict[str, float]) -> None:
        super().step(step, metrics)
        if step == self.at:
            self.at = 0
            signal.raise_signal(signal.SIGTERM)


def test_a_training_without_mlflow_answers_sigterm_goes_on_and_ends(
    server: MlflowServer, folder: FolderStore, model: ModelConfig, tmp_path: Path
) -> None:
    draw_uploads(tmp_path / "store/uploads" / model.dataset, 4, FIRST_TASTE, seed=1)
    ingest(folder, model.dataset, IngestSpec())
    local = installed(folder, device="cpu")
    plan = plan_training(local, model, TrainRequest(train=SPEC))
    server.stop()
    diary = Evicted()
    with pytest.raises(Terminated), raising():
        train(local, model, plan, diary)
    assert sorted(diary.losses) == [1, 2]
    result = train(local, model, plan, diary)
    assert (result.resumed_from, result.mlflow_run) == (2, "")
    assert sorted(diary.losses) == [1, 2, 3, 4]
    (said,) = [message for message in diary.messages if "MLflow" in message]
    assert "pytorch_lora_weights.safetensors" in said
    assert "the final figures" in said
    assert train(local, model, plan, diary) == result
