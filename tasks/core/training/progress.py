"""What a terminal shows of a training: a bar, or lines where there is none."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from tqdm import tqdm

WINDOW = 50  # steps that the speed is taken over


class Speed:
    """Optimiser steps a second of this attempt."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.started = now()
        self.steps = 0
        self.seconds_reporting = 0.0
        self.ends: deque[float] = deque(maxlen=WINDOW + 1)

    def count(self) -> dict[str, float]:
        """Count a step that has just ended; the metric `steps_per_second` over the last ones, from the second on."""
        self.steps += 1
        self.ends.append(self.now())
        seconds = self.ends[-1] - self.ends[0]
        return {"steps_per_second": (len(self.ends) - 1) / seconds} if seconds > 0 else {}

    def mean(self) -> float:
        """Over the whole attempt up to the last step."""
        seconds = self.ends[-1] - self.started if self.ends else 0.0
        return round(self.steps / seconds, 3) if seconds else 0.0

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Count the time of the block as reporting, not training."""
        started = self.now()
        yield
        self.seconds_reporting += self.now() - started

    def reporting_share(self) -> float:
        """The share of the time up to the last step that was spent on reporting steps."""
        seconds = self.ends[-1] - self.started if self.ends else 0.0
        return round(self.seconds_reporting / seconds, 5) if seconds else 0.0


def progress_line(step: int, steps: int, metrics: dict[str, float]) -> str:
    """Step, loss, steps/s and the time left, as in a log line or a progress bar."""
    return f"step {step}/{steps}, {loss_and_time_left(step, steps, metrics)}"


def loss_and_time_left(step: int, steps: int, metrics: dict[str, float]) -> str:
    """The part of the line behind the step."""
    loss = f"loss {metrics['loss']:.4f}"
    if not (speed := metrics.get("steps_per_second")):
        return loss
    left = round((steps - step) / speed)
    return f"{loss}, {speed:.2f} steps/s, ETA {left // 60} min {left % 60:02d} s"


LINES = 50  # of progress in a training, about
BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"


class Progress:
    """Prints the progress of a training, and writes its sample pictures into a folder."""

    def __init__(self, steps: int, folder: Path) -> None:
        self.steps, self.folder = steps, folder
        self.every = max(1, steps // LINES)

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """A line now and then."""
        if step % self.every == 0 or step == self.steps:
            print_line(progress_line(step, self.steps, metrics))

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        """Sample pictures as PNG files."""
        self.folder.mkdir(exist_ok=True)
        for i, picture in enumerate(pictures):
            picture.save(self.folder / f"step-{step:06d}-{i}.png")

    def resumed(self, step: int) -> None:
        """The training resumes from a checkpoint."""
        print_line(f"resumes from the checkpoint of step {step}")

    def note(self, message: str) -> None:
        """A message for people."""
        print_line(message)


class Bar(Progress):
    """A bar on stderr instead of the lines."""

    def __init__(self, steps: int, folder: Path, bar: "tqdm[None]") -> None:
        super().__init__(steps, folder)
        self.bar = bar

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """Redrawn at most ten times a second."""
        self.bar.set_postfix_str(loss_and_time_left(step, self.steps, metrics), refresh=False)
        self.bar.update(step - self.bar.n)


@contextmanager
def progress(steps: int, folder: Path) -> Iterator[Progress]:
    """A bar when stderr is a terminal, else lines on stdout."""
    if not sys.stderr.isatty():
        yield Progress(steps, folder)
        return
    with tqdm(total=steps, bar_format=BAR, dynamic_ncols=True) as bar:
        yield Bar(steps, folder, bar)


def print_line(line: str) -> None:
    """Print a line at once, also into a pipe, and above a bar."""
    tqdm.write(line)
    sys.stdout.flush()
