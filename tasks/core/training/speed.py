"""How fast a training goes, and how long it still takes."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WINDOW = 50  # steps that the speed is taken over


class Speed:
    """Optimiser steps a second of this attempt."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.begun = now()
        self.steps = 0
        self.seconds_told = 0.0
        self.ends: deque[float] = deque(maxlen=WINDOW + 1)

    def count(self) -> dict[str, float]:
        """Count a step that has just ended; the metric `steps_per_second` over the last ones, from the second on."""
        self.steps += 1
        self.ends.append(self.now())
        seconds = self.ends[-1] - self.ends[0]
        return {"steps_per_second": (len(self.ends) - 1) / seconds} if seconds > 0 else {}

    def mean(self) -> float:
        """Over the whole attempt up to the last step."""
        seconds = self.ends[-1] - self.begun if self.ends else 0.0
        return round(self.steps / seconds, 3) if seconds else 0.0

    @contextmanager
    def telling(self) -> Iterator[None]:
        """What is done in the block is telling, not training."""
        begun = self.now()
        yield
        self.seconds_told += self.now() - begun

    def told_share(self) -> float:
        """The share of the time up to the last step that went into telling of steps."""
        seconds = self.ends[-1] - self.begun if self.ends else 0.0
        return round(self.seconds_told / seconds, 5) if seconds else 0.0


def told(step: int, steps: int, metrics: dict[str, float]) -> str:
    """Step, loss, steps/s and the time left, as a log line or a progress bar says it."""
    return f"step {step}/{steps}, {loss_and_time_left(step, steps, metrics)}"


def loss_and_time_left(step: int, steps: int, metrics: dict[str, float]) -> str:
    """The part of the line that does not say how far it is."""
    loss = f"loss {metrics['loss']:.4f}"
    if not (speed := metrics.get("steps_per_second")):
        return loss
    left = round((steps - step) / speed)
    return f"{loss}, {speed:.2f} steps/s, ETA {left // 60} min {left % 60:02d} s"
