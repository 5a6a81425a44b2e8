"""The time, UTC. One function, so that a demo or a test can let days pass."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

SETTING = "DYEWORKS_CLOCK"


def now() -> datetime:
    """The current time, plus the offset in seconds in the file that `DYEWORKS_CLOCK` names, if any."""
    name = os.environ.get(SETTING, "")
    ahead = float(Path(name).read_text(encoding="utf-8")) if name and Path(name).exists() else 0.0
    return datetime.now(UTC) + timedelta(seconds=ahead)


class Stopwatch:
    """Measures device time from its creation; `before` is what earlier attempts took."""

    def __init__(self, devices: int = 1) -> None:
        self.started, self.devices = time.perf_counter(), devices
        self.before = 0.0

    def seconds(self) -> float:
        """Device-seconds so far, including earlier attempts."""
        return round(self.before + self.devices * (time.perf_counter() - self.started), 3)


REST = 100  # times the duration of the last action that pass before the next


class Throttle:
    """Limits how often an action runs: every `seconds` at most, and at most for a hundredth of the time."""

    def __init__(self, seconds: float = 1.0, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds, self.now = seconds, now
        self.next = now() + seconds

    def due(self) -> bool:
        """Whether the action is due."""
        return self.now() >= self.next

    @contextmanager
    def action(self) -> Iterator[None]:
        """Run the action; its duration, even when it fails, decides when the next one is due."""
        started = self.now()
        try:
            yield
        finally:
            ended = self.now()
            self.next = ended + max(self.seconds, REST * (ended - started))
