"""What the demo says while it works: each line with the time since its start."""

import time


class Teller:
    """Prints lines with the elapsed time; the same progress is not said twice."""

    def __init__(self, before: float = 0.0) -> None:
        self.start = time.monotonic() - before
        self.last = ""

    @property
    def elapsed(self) -> float:
        """Seconds since the start, those of a killed attempt included."""
        return time.monotonic() - self.start

    def title(self, text: str) -> None:
        """A stage begins."""
        self.say(f"== {text}")

    def say(self, text: str) -> None:
        """A line."""
        if text != self.last:
            self.last = text
            print(f"{int(self.elapsed) // 60:3d}:{int(self.elapsed) % 60:02d}  {text}", flush=True)
