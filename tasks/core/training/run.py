"""A training from its plan to its result."""

import tempfile
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
from tasks.core.training.material import load_pictures
from tasks.core.training.plan import TrainPlan
from tasks.core.training.speed import Speed
from tasks.core.training.telling import close_training, open_training
from tasks.core.training.trainer import Lesson, Observer, Trainer


def train(store: Store, settings: Settings, plan: TrainPlan, observer: Observer) -> TrainResult:
    """Run the plan, or find its result; resumes from the newest checkpoint."""
    if done := find_result(store, TrainResult, plan.key):
        return done
    meter = Meter()
    manifest = load_manifest(store, plan.dataset, plan.version)
    trainer = Trainer(load_pipeline(settings), _lesson(store, settings, manifest, plan), plan.spec, settings, meter)
    run = open_training(settings, plan, manifest)
    course = _Course(observer, tracking.Tracker(run))
    try:
        trainer.run(store, plan.key, course)
    finally:
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
        steps_per_second=course.speed.mean(),
        seconds=meter.seconds(),
    )
    close_training(run, result.steps_per_second, trainer.pipe.unet)
    save_result(store, result)
    return result


def _lesson(store: Store, settings: Settings, manifest: Manifest, plan: TrainPlan) -> Lesson:
    items, _ = split(manifest)
    pictures = load_pictures(store, plan.dataset, items, plan.spec.resolution)
    captions = [item.caption for item in items]
    clip = Clip(settings)
    return Lesson(pictures, captions, demand_weights(clip, captions, plan.demand))


class _Course:
    """Passes a training's course on to MLflow and an observer, and keeps its figures."""

    def __init__(self, observer: Observer, tracker: tracking.Tracker) -> None:
        self.observer, self.tracker = observer, tracker
        self.first = 0
        self.loss = 0.0
        self.speed = Speed()

    def step(self, step: int, metrics: dict[str, float]) -> None:
        metrics = metrics | self.speed.count()
        self.loss = 0.98 * self.loss + 0.02 * metrics["loss"] if self.loss else metrics["loss"]
        self.tracker.step(step, metrics)
        self.observer.step(step, metrics)

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        self.tracker.samples(step, pictures)
        self.observer.samples(step, pictures)

    def resumed(self, step: int) -> None:
        self.first = step
        self.observer.resumed(step)
