"""The time, UTC. One function, so that a demo or a test can let days pass."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

SETTING = "DYEWORKS_CLOCK"


def now() -> datetime:
    """The present moment, plus the seconds in the file that `DYEWORKS_CLOCK` names, if any."""
    name = os.environ.get(SETTING, "")
    ahead = float(Path(name).read_text(encoding="utf-8")) if name and Path(name).exists() else 0.0
    return datetime.now(UTC) + timedelta(seconds=ahead)


class Stopwatch:
    """Runs from its making on, on so many devices; `before` is what earlier attempts took."""

    def __init__(self, devices: int = 1) -> None:
        self.begun, self.devices = time.perf_counter(), devices
        self.before = 0.0

    def seconds(self) -> float:
        """Device-seconds so far, those of earlier attempts among them."""
        return round(self.before + self.devices * (time.perf_counter() - self.begun), 3)


REST = 100  # times the duration of the last action that pass before the next


class Throttle:
    """Says when an action is due again: after `seconds`, and after a hundred times what the last one took."""

    def __init__(self, seconds: float = 1.0, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds, self.now = seconds, now
        self.next = now() + seconds

    def due(self) -> bool:
        """Whether it is time for the action."""
        return self.now() >= self.next

    @contextmanager
    def action(self) -> Iterator[None]:
        """The action; what it takes, even when it fails, decides when the next one is due."""
        begun = self.now()
        try:
            yield
        finally:
            ended = self.now()
            self.next = ended + max(self.seconds, REST * (ended - begun))
