"""MLflow: runs by the stage's key, metrics in batches, and the model registry's aliases."""

import time
from pathlib import Path

import mlflow
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image

from tasks.core.registry.ledger import Entry

KEY_TAG = "dyeworks.key"
BATCH = 50


def open_run(experiment: str, name: str, key: str, parameters: dict[str, str]) -> str:
    """The id of the run with this key, made anew if there is none."""
    client = MlflowClient()
    home = mlflow.set_experiment(experiment).experiment_id
    found = client.search_runs([home], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    run = client.create_run(home, run_name=name, tags={KEY_TAG: key})
    for parameter, value in parameters.items():
        client.log_param(run.info.run_id, parameter, value[:500])
    return str(run.info.run_id)


def close_run(run: str, metrics: dict[str, float]) -> None:
    """Log the final metrics and end the run."""
    log_metrics(run, [(0, metrics)])
    MlflowClient().set_terminated(run)


def log_metrics(run: str, rows: list[tuple[int, dict[str, float]]]) -> None:
    """Metrics of many steps in one request."""
    at = int(time.time() * 1000)
    entries = [Metric(name, value, at, step) for step, values in rows for name, value in values.items()]
    MlflowClient().log_batch(run, metrics=entries)


def log_picture(run: str, picture: Image.Image, key: str, step: int) -> None:
    """A picture of a series; MLflow's page has a slider over the steps."""
    MlflowClient().log_image(run, picture, key=key, step=step)


def log_file(run: str, path: Path, folder: str = "") -> None:
    """A file among the run's artifacts."""
    MlflowClient().log_artifact(run, str(path), folder or None)


def register(model: str, run: str, entry: Entry) -> None:
    """Project a generation into the registry: a version with tags, and the `champion` and `previous` aliases."""
    client = MlflowClient()
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = client.search_model_versions(f"name = '{model}'")
    mine = [v for v in versions if v.tags.get("release") == entry.release]
    if not mine:
        tags = {"release": entry.release, "generation": str(entry.generation), "dataset": entry.dataset_version}
        mine = [client.create_model_version(model, f"runs:/{run}/adapter", run, tags=tags, description=entry.reason)]
    aliases: dict[str, str] = client.get_registered_model(model).aliases
    current = aliases.get("champion", "")
    if str(mine[0].version) == str(current):
        return
    if current:
        client.set_registered_model_alias(model, "previous", current)
    client.set_registered_model_alias(model, "champion", mine[0].version)


class Tracker:
    """Sends the course of a training to MLflow."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.rows: list[tuple[int, dict[str, float]]] = []

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """Gather metrics; every BATCH steps they are sent."""
        self.rows.append((step, metrics))
        if len(self.rows) >= BATCH:
            self.send()

    def send(self) -> None:
        """Send what was gathered."""
        if self.rows:
            log_metrics(self.run, self.rows)
        self.rows = []

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        """A strip of sample pictures."""
        side = pictures[0].width
        strip = Image.new("RGB", (side * len(pictures), side))
        for i, picture in enumerate(pictures):
            strip.paste(picture, (i * side, 0))
        log_picture(self.run, strip, "samples", step)
