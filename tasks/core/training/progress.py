"""What a terminal shows of a training: a bar, or lines where there is none."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from tasks.core.training.speed import loss_and_time_left, told

LINES = 50  # of progress in a training, about
BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"


class Progress:
    """Prints the course of a training, and keeps its sample pictures in a folder."""

    def __init__(self, steps: int, folder: Path) -> None:
        self.steps, self.folder = steps, folder
        self.every = max(1, steps // LINES)

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """A line now and then."""
        if step % self.every == 0 or step == self.steps:
            say(told(step, self.steps, metrics))

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        """Sample pictures as PNG files."""
        self.folder.mkdir(exist_ok=True)
        for i, picture in enumerate(pictures):
            picture.save(self.folder / f"step-{step:06d}-{i}.png")

    def resumed(self, step: int) -> None:
        """The training goes on from a checkpoint."""
        say(f"goes on from the checkpoint of step {step}")

    def told(self, message: str) -> None:
        """Something that people should know."""
        say(message)


class Bar(Progress):
    """A bar on stderr instead of the lines."""

    def __init__(self, steps: int, folder: Path, bar: "tqdm[None]") -> None:
        super().__init__(steps, folder)
        self.bar = bar

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """Drawn anew at most ten times a second."""
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


def say(line: str) -> None:
    """Print a line at once, also into a pipe, and above a bar."""
    tqdm.write(line)
    sys.stdout.flush()
