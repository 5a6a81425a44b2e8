"""A training from its plan to its result."""

import tempfile
import time
from pathlib import Path

from PIL import Image

from tasks.core import clock, tracking
from tasks.core.clip import Clip
from tasks.core.data.dataset import Manifest, load_manifest, split
from tasks.core.meter import Meter
from tasks.core.pipeline import load_pipeline
from tasks.core.results import TrainResult, find_result, save_result
from tasks.core.settings import Settings
from tasks.core.store import Store, upload_folder
from tasks.core.training.demand import demand_weights
from tasks.core.training.material import Lesson, stored
from tasks.core.training.plan import TrainPlan
from tasks.core.training.trainer import Observer, Trainer


def train(store: Store, settings: Settings, plan: TrainPlan, observer: Observer) -> TrainResult:
    """Run the plan, or find its result; resumes from the newest checkpoint."""
    if done := find_result(store, TrainResult, plan.key):
        return done
    meter = Meter()
    manifest = load_manifest(store, plan.dataset, plan.version)
    lesson = lesson_of(store, settings, manifest, plan.demand)
    trainer = Trainer(load_pipeline(settings), lesson, plan.spec, settings, meter)
    parameters = {"dataset": manifest.version, "base": plan.base, **{k: str(v) for k, v in plan.spec}}
    run = tracking.open_run(f"{settings.model}-train", plan.key, plan.key, parameters)
    course = _Course(observer, tracking.Tracker(run))
    trainer.run(store, plan.key, course)
    course.tracker.send()
    adapter = f"checkpoints/{plan.key}/adapter/"
    with tempfile.TemporaryDirectory() as folder:
        trainer.save(Path(folder))
        upload_folder(store, Path(folder), adapter)
        for path in sorted(Path(folder).iterdir()):
            tracking.log_file(run, path, "adapter")
    result = TrainResult(
        key=plan.key,
        finished=clock.now(),
        dataset=plan.dataset,
        dataset_version=plan.version,
        spec=plan.spec,
        mlflow_run=run,
        adapter=adapter,
        loss=course.loss,
        resumed_from=course.first,
        steps_per_second=course.speed(),
        seconds=meter.seconds(),
    )
    tracking.close_run(run, {"steps_per_second": result.steps_per_second})
    save_result(store, result)
    return result


def lesson_of(store: Store, settings: Settings, manifest: Manifest, demand: tuple[str, ...]) -> Lesson:
    """The pictures to train on, weighted by demand, and those held out; none is read yet."""
    items, held = split(manifest)
    weights = demand_weights(Clip(settings), [item.caption for item in items], demand)
    pictures, validated = ([stored(store, manifest.dataset, item) for item in part] for part in (items, held))
    return Lesson(pictures, weights, validated)


class _Course:
    """Passes a training's course on to MLflow and an observer, and keeps its figures."""

    def __init__(self, observer: Observer, tracker: tracking.Tracker) -> None:
        self.observer, self.tracker = observer, tracker
        self.first = self.steps = 0
        self.loss = 0.0
        self.start = time.perf_counter()
        self.seconds = 0.0

    def step(self, step: int, metrics: dict[str, float]) -> None:
        self.steps += 1
        self.seconds = time.perf_counter() - self.start
        self.loss = 0.98 * self.loss + 0.02 * metrics["loss"] if self.loss else metrics["loss"]
        self.tracker.step(step, metrics)
        self.observer.step(step, metrics)

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        self.tracker.samples(step, pictures)
        self.observer.samples(step, pictures)

    def resumed(self, step: int) -> None:
        self.first = step
        self.observer.resumed(step)

    def told(self, message: str) -> None:
        self.observer.told(message)

    def speed(self) -> float:
        """Optimiser steps a second, of this attempt."""
        return round(self.steps / self.seconds, 3) if self.seconds else 0.0
