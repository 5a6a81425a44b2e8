"""How often to tell something that takes time: never more than about a hundredth of the time goes into telling."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REST = 100  # times the duration of the last action that pass before the next


class Pace:
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
