"""A training small enough to run many times: six steps on a tiny pipeline with random weights."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.core.config.training import TrainSpec, ValidationSpec
from tasks.core.models.pipeline import load_pipeline
from tasks.core.training.dataset import Lesson, drawn
from tasks.core.training.trainer import Trainer

SPEC = TrainSpec(
    resolution=64,
    bucket_step=32,
    steps=6,
    batch=2,
    accumulation=2,
    rank=2,
    alpha=4,
    learning_rate=0.01,
    checkpoint_every=3,
    sample_every=100,
    validation=ValidationSpec(every=2, pictures=2),
)


class Cut(Exception):
    """The process dies here."""


@dataclass
class Diary:
    """Records the reports of a training, and interrupts it at a step."""

    cut: int = 0
    losses: dict[int, float] = field(default_factory=dict)
    validated: dict[int, float] = field(default_factory=dict)
    pictures: list[Image.Image] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    first: int = 0

    def step(self, step: int, metrics: dict[str, float]) -> None:
        self.losses[step] = metrics["loss"]
        if "validation_loss" in metrics:
            self.validated[step] = metrics["validation_loss"]
        if step == self.cut:
            raise Cut

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        self.pictures = pictures
        self.shown.append(step)

    def resumed(self, step: int) -> None:
        self.first = step

    def note(self, message: str) -> None:
        self.messages.append(message)


def lesson(wide: bool = False) -> Lesson:
    """Six pictures, two of them held out; every second one is wide."""
    rng = np.random.default_rng(0)
    shapes = [(48, 96, 3) if wide and i % 2 else (64, 64, 3) for i in range(6)]
    images = [Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)) for shape in shapes]
    named = [drawn(image, f"picture {i}") for i, image in enumerate(images)]
    return Lesson(named[:4], np.full(4, 0.25), named[4:])


def tiny(base: Path, cache: Path, spec: TrainSpec = SPEC, given: Lesson | None = None) -> Trainer:
    """A trainer on one of the tiny pipelines."""
    return Trainer(load_pipeline(str(base), "cpu"), given or lesson(), spec, cache, "adire_style")


def asking(**options: object) -> TrainSpec:
    """The small specification with other values."""
    return TrainSpec.model_validate(SPEC.model_dump() | options)
