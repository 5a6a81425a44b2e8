"""A training from its plan to its result."""

import tempfile
from functools import partial
from pathlib import Path

from PIL import Image

from tasks.core import clock
from tasks.core.config.base import flat
from tasks.core.config.model import ModelConfig
from tasks.core.data.dataset import Manifest, load_manifest, manifest_key
from tasks.core.data.split import split
from tasks.core.installation import Installation
from tasks.core.registry.results import TrainResult, checkpoint_folder, find_result, save_result
from tasks.core.store import upload_folder
from tasks.core.tracking import runs
from tasks.core.tracking.runs import provenance
from tasks.core.training.distributed import Ranks
from tasks.core.training.fit import check, fit
from tasks.core.training.launch import fit_in_processes
from tasks.core.training.plan import TrainPlan
from tasks.core.training.progress import Speed
from tasks.core.training.trainer import Observer


def open_training(plan: TrainPlan, manifest: Manifest) -> str:
    """The id of the plan's run, with its parameters, specification, dataset and code."""
    spec = plan.spec.model_dump(mode="json")
    parameters = {"dataset": manifest.version, "held_out": plan.held, "base": plan.base, **flat(plan.spec)}
    run = runs.open_run(f"{plan.model}-train", plan.key, plan.key, parameters, provenance())
    runs.log_document(run, spec, "spec.json")
    key = manifest_key(manifest.dataset, manifest.version)
    runs.log_dataset(run, manifest.dataset, manifest.version, key, len(manifest.items))
    return run


def train(installation: Installation, model: ModelConfig, plan: TrainPlan, observer: Observer) -> TrainResult:
    """Run the plan, or find its result; resumes from the newest checkpoint. Reports at the end what MLflow missed."""
    if done := find_result(installation.store, model.name, TrainResult, plan.key):
        return done
    check(plan.spec)
    manifest = load_manifest(installation.store, plan.dataset, plan.version)
    tracker = runs.Tracker(lambda: open_training(plan, manifest))
    tracker.send()  # creates the run; where that fails, it is created later
    course = _Course(observer, tracker)
    for line in split(installation.store, manifest).remarks():
        course.note(line)
    prefix = f"{checkpoint_folder(plan.model, plan.key)}/adapter/"
    with tempfile.TemporaryDirectory() as folder:
        adapter = Path(folder) / "adapter"
        adapter.mkdir()
        try:
            figures = _fit(installation, model, plan, course, Path(folder))
        finally:
            tracker.send()
        upload_folder(installation.store, adapter, prefix)
        for path in sorted(adapter.iterdir()):
            tracker.log(path.name, partial(runs.log_file, path=path, folder="adapter"))
    result = TrainResult(
        key=plan.key,
        model=plan.model,
        finished=clock.now(),
        dataset=plan.dataset,
        dataset_version=plan.version,
        spec=plan.spec,
        mlflow_run=tracker.run,
        adapter=prefix,
        loss=course.loss,
        resumed_from=course.first,
        steps_per_second=course.speed.mean(),
        seconds=figures["seconds"],
        figures=figures | {"reporting_share": course.speed.reporting_share()},
        base=plan.base,
        held=plan.held,
    )
    ended = {"steps_per_second_mean": result.steps_per_second, **result.figures}
    tracker.log("the final figures", partial(runs.close_run, metrics=ended))
    save_result(installation.store, result)
    if loss := tracker.loss():
        observer.note(loss)
    return result


def _fit(
    installation: Installation, model: ModelConfig, plan: TrainPlan, course: Observer, folder: Path
) -> dict[str, float]:
    if plan.spec.compute.processes > 1:
        return fit_in_processes(installation.settings, model, plan, course, folder)
    return fit(installation, model, plan, course, folder / "adapter", Ranks())


class _Course:
    """Passes the progress of a training to MLflow and an observer, and collects its figures."""

    def __init__(self, observer: Observer, tracker: runs.Tracker) -> None:
        self.observer, self.tracker = observer, tracker
        self.first = 0
        self.loss = 0.0
        self.speed = Speed()

    def step(self, step: int, metrics: dict[str, float]) -> None:
        metrics = metrics | self.speed.count()
        self.loss = 0.98 * self.loss + 0.02 * metrics["loss"] if self.loss else metrics["loss"]
        with self.speed.reporting():
            self.tracker.step(step, metrics)
            self.observer.step(step, metrics)

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        self.tracker.samples(step, pictures)
        self.observer.samples(step, pictures)

    def resumed(self, step: int) -> None:
        self.first = step
        self.observer.resumed(step)

    def note(self, message: str) -> None:
        self.observer.note(message)
