"""The meter: how long a stage has held its device, in real seconds, whatever the clock of a demo says."""

import time


class Meter:
    """Runs from its making on; `before` is what earlier attempts took."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.before = 0.0

    def seconds(self) -> float:
        """Seconds so far, those of earlier attempts among them."""
        return round(self.before + time.perf_counter() - self.begun, 3)
