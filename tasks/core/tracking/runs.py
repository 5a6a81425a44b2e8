"""MLflow: runs by the stage's key, metrics in batches, and tags that name the code that made a run."""

import json
import os
import subprocess
import time
import tomllib
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image
from sqlalchemy import make_url

from tasks.core.clock import Throttle
from tasks.core.config.installation import ROOT
from tasks.core.errors import Terminated

KEY_TAG = "dyeworks.key"
BATCH = 1000  # metrics that MLflow accepts in one request
LONGEST = 6000  # characters that it accepts for a parameter
MOST = 100_000  # metrics that are queued while MLflow is down
# While it is down a training step waits for it: seconds, not the minutes of MLflow's defaults.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


def open_run(
    experiment: str, name: str, key: str, parameters: Mapping[str, object], tags: Mapping[str, str] | None = None
) -> str:
    """The id of the run with this key, created if there is none; a parameter keeps its first value."""
    client = MlflowClient()
    home = _home(experiment)
    found = client.search_runs([home], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    run = found[0] if found else client.create_run(home, run_name=name, tags={KEY_TAG: key})
    new = [Param(p, str(value)[:LONGEST]) for p, value in parameters.items() if p not in run.data.params]
    client.log_batch(run.info.run_id, params=new, tags=[RunTag(t, value) for t, value in (tags or {}).items()])
    return str(run.info.run_id)


def _home(experiment: str) -> str:
    """The id of an experiment, created if there is none; its artifacts are stored beside a database file.

    By default MLflow would store them in the working directory.
    """
    database = mlflow.get_tracking_uri()
    if database.startswith("sqlite") and not mlflow.get_experiment_by_name(experiment):
        name = make_url(database).database or ""
        file = Path(unquote(name.removeprefix("file:"))) if name.startswith("file:") else Path(name)
        with suppress(MlflowException):  # another process has just made it
            mlflow.create_experiment(experiment, artifact_location=(file.parent / "mlflow").absolute().as_uri())
    return str(mlflow.set_experiment(experiment).experiment_id)


def log_document(run: str, document: Mapping[str, object], name: str) -> None:
    """A JSON file among the run's artifacts."""
    MlflowClient().log_dict(run, dict(document), name)


def log_dataset(run: str, name: str, version: str, key: str, pictures: int) -> None:
    """The dataset version that a run is trained on; its source is the manifest in the store."""
    source, profile = json.dumps({"manifest": key}), json.dumps({"pictures": pictures})
    dataset = Dataset(name, version, "dyeworks", source, profile=profile)
    entry = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
    MlflowClient().log_inputs(run, [entry])


def close_run(run: str, metrics: dict[str, float]) -> None:
    """Log the final metrics and end the run."""
    log_metrics(run, [(0, metrics)])
    MlflowClient().set_terminated(run)


def log_metrics(run: str, rows: list[tuple[int, dict[str, float]]]) -> None:
    """Metrics of many steps, all of now."""
    _send(run, [entry for step, values in rows for entry in _metrics(step, values)])


def _metrics(step: int, values: dict[str, float]) -> list[Metric]:
    at = int(time.time() * 1000)
    return [Metric(name, value, at, step) for name, value in values.items()]


def _send(run: str, entries: list[Metric]) -> None:
    client = MlflowClient()
    for first in range(0, len(entries), BATCH):
        client.log_batch(run, metrics=entries[first : first + BATCH])


def log_picture(run: str, picture: Image.Image, key: str, step: int) -> None:
    """A picture of a series; MLflow's page has a slider over the steps."""
    MlflowClient().log_image(run, picture, key=key, step=step)


def log_file(run: str, path: Path, folder: str = "") -> None:
    """A file among the run's artifacts."""
    MlflowClient().log_artifact(run, str(path), folder or None)


class Tracker:
    """Logs a training to MLflow, rarely enough not to slow it down.

    MLflow may be down at any time, also when the run starts: metrics are then queued, the newest MOST of them, and
    sent again when they are due. `loss` reports what could not be sent; it never fails the training.
    """

    def __init__(self, begin: Callable[[], str], pace: Throttle | None = None) -> None:
        self.begin, self.pace = begin, pace or Throttle()
        self.run = ""
        self.unsent = deque[Metric](maxlen=MOST)
        self.dropped, self.unlogged = 0, list[str]()
        self.fault = ""  # of the last try that failed

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """Gather metrics, and send them when that is due."""
        new = _metrics(step, metrics)
        self.dropped += max(0, len(self.unsent) + len(new) - MOST)
        self.unsent += new
        if self.pace.due():
            with self.pace.action():
                self.send()

    def send(self) -> None:
        """Send what was gathered."""
        if self._try(lambda run: _send(run, list(self.unsent))):
            self.unsent.clear()

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        """A strip of sample pictures."""
        side = pictures[0].width
        strip = Image.new("RGB", (side * len(pictures), side))
        for i, picture in enumerate(pictures):
            strip.paste(picture, (i * side, 0))
        self.log(f"samples of step {step}", lambda run: log_picture(run, strip, "samples", step))

    def log(self, what: str, work: Callable[[str], None]) -> None:
        """Log something else of the run."""
        if not self._try(work):
            self.unlogged.append(what)

    def loss(self) -> str:
        """What is missing in MLflow, and why; empty when nothing is."""
        missing = [f"{count} metrics" for count in [self.dropped + len(self.unsent)] if count] + self.unlogged
        return f"MLflow was down: it lacks {', '.join(missing)} ({self.fault})" if missing else ""

    def _try(self, work: Callable[[str], None]) -> bool:
        """Call it with the run, which is created first if needed; whether that succeeded."""
        try:
            self.run = self.run or self.begin()
            work(self.run)
        except Terminated:  # the process is to end: no fault of MLflow's
            raise
        except Exception as error:  # the boundary to a service: whatever MLflow's client, or a database's, raises
            self.fault = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return False
        return True


PACKAGES = ("torch", "diffusers", "peft", "transformers", "accelerate", "numpy")


def provenance(root: Path = ROOT) -> dict[str, str]:
    """Tags of a run: `mlflow.source.git.commit` only in a checkout, the versions everywhere."""
    commit = git_commit(root)
    return (
        ({"mlflow.source.git.commit": commit} if commit else {})
        | {"dyeworks.version": own_version(root)}
        | {f"package.{name}": metadata.version(name) for name in PACKAGES}
    )


def git_commit(root: Path) -> str:
    """The commit that is checked out at `root`, with `-dirty` if files differ from it; empty outside a checkout."""
    line = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def own_version(root: Path) -> str:
    """The version that pyproject.toml states; that of the installed package where there is none."""
    try:
        version: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    except FileNotFoundError:
        try:
            version = metadata.version("dyeworks")
        except metadata.PackageNotFoundError:
            version = "unknown"
    return version
