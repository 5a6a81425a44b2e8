"""What MLflow keeps of a training, read back from a real SQLite store."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from tasks.core.clock import Throttle
from tasks.core.config.base import flat
from tasks.core.config.installation import ROOT
from tasks.core.config.training import ComputeSpec, PriorSpec, TrainSpec
from tasks.core.data.dataset import Item, Manifest
from tasks.core.store.documents import digest
from tasks.core.tracking import runs
from tasks.core.training.plan import TrainPlan
from tasks.core.training.run import open_training

SPEC = TrainSpec(steps=7, prior=PriorSpec(prompts=("red dots",) * 300, weight=0.5), compute=ComputeSpec(processes=2))


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model with an experiment of its own, whose artifacts lie where the process is."""
    monkeypatch.chdir(tmp_path)
    return f"shop-{digest(request.node.name)}"


def plan_of(spec: TrainSpec, model: str) -> TrainPlan:
    return TrainPlan(key="k1", model=model, dataset="adire", version="v1", demand=(), spec=spec, base="embedded")


def manifest() -> Manifest:
    items = tuple(Item(sha256=str(i), caption="rings", name=f"{i}.png") for i in range(3))
    return Manifest(dataset="adire", version="v1", created=datetime(2026, 1, 1, tzinfo=UTC), items=items, new=3)


def test_a_training_s_run_tells_what_it_was_made_of(mlflow_home: MlflowClient, shop: str) -> None:
    run = mlflow_home.get_run(open_training(plan_of(SPEC, shop), manifest()))
    expected = {"steps": "7", "prior.weight": "0.5", "compute.processes": "2", "dataset": "v1", "base": "embedded"}
    assert expected.items() <= run.data.params.items()
    assert "prior" not in run.data.params
    assert len(run.data.params["prior.prompts"]) > 500
    spec = json.loads(Path(mlflow_home.download_artifacts(run.info.run_id, "spec.json")).read_text())
    assert TrainSpec.model_validate(spec) == SPEC
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("adire", "v1")
    assert json.loads(used.dataset.source) == {"manifest": "datasets/adire/v1/manifest.json"}
    assert json.loads(used.dataset.profile) == {"pictures": 3}
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]
    packages = {name.removeprefix("package.") for name in run.data.tags if name.startswith("package.")}
    assert packages == set(runs.PACKAGES)


PLAIN, QUOTED = "sqlite:///{plain}", "sqlite+pysqlite:///file:{quoted}?uri=true"


@pytest.mark.parametrize(
    ("name", "address"),
    [("plain", PLAIN), ("100%20 #1 \u00fc", PLAIN), ("plain", QUOTED), ("what? 100%20 #1 \u00fc", QUOTED)],
)
def test_files_lie_beside_a_database_and_not_where_the_process_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_database: Path, name: str, address: str
) -> None:
    place, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    shutil.copy(mlflow_database, place / "mlflow.db")
    monkeypatch.chdir(elsewhere)
    before, file = mlflow.get_tracking_uri(), str(place / "mlflow.db")
    mlflow.set_tracking_uri(address.format(plain=file, quoted=quote(file)))
    try:
        run = runs.open_run("beside", "k1", "k1", {})
        runs.log_document(run, {"a": 1}, "a.json")
    finally:
        mlflow.set_tracking_uri(before)
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # mlflow sets it for its children
    (found,) = place.rglob("a.json")
    assert found.is_relative_to(place / "mlflow")
    assert list(elsewhere.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} <= {name, "elsewhere"}


def test_a_resumed_training_goes_on_in_its_run(mlflow_home: MlflowClient, shop: str) -> None:
    first = open_training(plan_of(SPEC, shop), manifest())
    alone = plan_of(SPEC.model_copy(update={"compute": ComputeSpec(processes=1)}), shop)
    assert open_training(alone, manifest()) == first
    run = mlflow_home.get_run(first)
    assert run.data.params["compute.processes"] == "2", "a parameter cannot be changed"
    assert len(run.inputs.dataset_inputs) == 1


def test_metrics_are_sent_when_they_are_due_and_all_of_them_at_the_end(mlflow_home: MlflowClient, shop: str) -> None:
    time = [0.0]
    run = open_training(plan_of(SPEC, shop), manifest())
    tracker = runs.Tracker(lambda: run, Throttle(now=lambda: time[0]))
    for step in range(1, 601):
        tracker.step(step, {"loss": 1 / step, "learning_rate": 0.1})
        assert bool(tracker.unsent) == (step != 300)
        time[0] = {299: 1.0, 300: 1.9}.get(step, time[0])
    assert len(mlflow_home.get_metric_history(run, "loss")) == 300
    tracker.send()
    assert not tracker.unsent
    history = mlflow_home.get_metric_history(run, "loss")
    assert [entry.step for entry in history] == list(range(1, 601))
    assert history[99].value == 0.01


def test_more_metrics_than_a_request_takes_are_sent_in_several(mlflow_home: MlflowClient, shop: str) -> None:
    run = open_training(plan_of(SPEC, shop), manifest())
    runs.log_metrics(run, [(step, {"loss": 1.0, "grad_norm": 2.0}) for step in range(1200)])
    assert len(mlflow_home.get_metric_history(run, "grad_norm")) == 1200


def test_nested_values_are_told_by_their_path() -> None:
    told = flat(SPEC)
    assert (told["steps"], told["prior.weight"], told["compute.processes"]) == ("7", "0.5", "2")
    assert "prior" not in told


def git(folder: Path, *words: str) -> str:
    line = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.example", *words]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_is_that_of_the_checkout_and_says_when_files_differ(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    tags = runs.provenance(tmp_path)
    assert tags["mlflow.source.git.commit"] == commit
    assert tags["dyeworks.version"] == "1.2.3"
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.4"\n')
    assert runs.git_commit(tmp_path) == f"{commit}-dirty"


def test_outside_a_checkout_there_is_no_commit_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    git(tmp_path, "init", "--quiet")  # of something else, round it
    assert "mlflow.source.git.commit" not in runs.provenance(folder)
    assert runs.own_version(folder) == metadata.version("dyeworks")
    monkeypatch.setenv("PATH", str(folder))
    assert runs.git_commit(ROOT) == ""
