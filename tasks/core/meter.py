"""The meter: how long a stage has held its device, in real seconds, whatever the clock of a demo says."""

import time


class Meter:
    """Runs from its making on, on so many devices; `before` is what earlier attempts took."""

    def __init__(self, devices: int = 1) -> None:
        self.begun, self.devices = time.perf_counter(), devices
        self.before = 0.0

    def seconds(self) -> float:
        """Device-seconds so far, those of earlier attempts among them."""
        return round(self.before + self.devices * (time.perf_counter() - self.begun), 3)
