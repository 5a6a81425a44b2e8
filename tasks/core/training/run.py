"""A training from its plan to its result."""

import tempfile
import time
from pathlib import Path

from PIL import Image

from tasks.core import clock, tracking
from tasks.core.results import TrainResult, find_result, save_result
from tasks.core.settings import Settings
from tasks.core.spec import flat
from tasks.core.store import Store, upload_folder
from tasks.core.training.fit import fit
from tasks.core.training.launch import fit_in_processes
from tasks.core.training.learner import check_processes
from tasks.core.training.plan import TrainPlan
from tasks.core.training.ranks import Ranks
from tasks.core.training.trainer import Observer


def train(store: Store, settings: Settings, plan: TrainPlan, observer: Observer) -> TrainResult:
    """Run the plan, or find its result; resumes from the newest checkpoint."""
    if done := find_result(store, TrainResult, plan.key):
        return done
    parameters = {"dataset": plan.version, "base": plan.base, **flat(plan.spec)}
    run = tracking.open_run(f"{settings.model}-train", plan.key, plan.key, parameters)
    course = _Course(observer, tracking.Tracker(run))
    prefix = f"checkpoints/{plan.key}/adapter/"
    with tempfile.TemporaryDirectory() as folder:
        adapter = Path(folder) / "adapter"
        adapter.mkdir()
        figures = _fit(store, settings, plan, course, Path(folder))
        course.tracker.send()
        upload_folder(store, adapter, prefix)
        for path in sorted(adapter.iterdir()):
            tracking.log_file(run, path, "adapter")
    result = TrainResult(
        key=plan.key,
        finished=clock.now(),
        dataset=plan.dataset,
        dataset_version=plan.version,
        spec=plan.spec,
        mlflow_run=run,
        adapter=prefix,
        loss=course.loss,
        resumed_from=course.first,
        steps_per_second=course.speed(),
        seconds=figures["seconds"],
        figures=figures,
    )
    tracking.close_run(run, {"steps_per_second": result.steps_per_second, **figures, "told_share": course.share()})
    save_result(store, result)
    return result


def _fit(store: Store, settings: Settings, plan: TrainPlan, course: Observer, folder: Path) -> dict[str, float]:
    if plan.spec.compute.processes > 1:
        check_processes(plan.spec)
        return fit_in_processes(settings, plan, course, folder)
    return fit(store, settings, plan, course, folder / "adapter", Ranks())


class _Course:
    """Passes a training's course on to MLflow and an observer, and keeps its figures."""

    def __init__(self, observer: Observer, tracker: tracking.Tracker) -> None:
        self.observer, self.tracker = observer, tracker
        self.first = self.steps = 0
        self.loss = 0.0
        self.begun = self.ended = self.told_seconds = 0.0

    def step(self, step: int, metrics: dict[str, float]) -> None:
        self.steps += 1
        now = time.perf_counter()
        self.begun = self.begun or now
        self.loss = 0.98 * self.loss + 0.02 * metrics["loss"] if self.loss else metrics["loss"]
        self.tracker.step(step, metrics)
        self.observer.step(step, metrics)
        self.ended = time.perf_counter()
        self.told_seconds += self.ended - now

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        self.tracker.samples(step, pictures)
        self.observer.samples(step, pictures)

    def resumed(self, step: int) -> None:
        self.first = step
        self.observer.resumed(step)

    def told(self, message: str) -> None:
        self.observer.told(message)

    def speed(self) -> float:
        """Optimiser steps a second, from the first step of this attempt on."""
        return round((self.steps - 1) / self._seconds(), 3) if self.steps > 1 else 0.0

    def share(self) -> float:
        """How much of its time the loop has spent telling of its steps."""
        return self.told_seconds / self._seconds() if self.steps > 1 else 0.0

    def _seconds(self) -> float:
        return max(self.ended - self.begun, 1e-9)
