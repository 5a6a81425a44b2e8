"""Console output of the demo: each line with the elapsed time."""

import time


class Console:
    """Prints lines with the elapsed time; the same line is not printed twice in a row."""

    def __init__(self, before: float = 0.0) -> None:
        self.start = time.monotonic() - before
        self.last = ""

    @property
    def elapsed(self) -> float:
        """Seconds since the start, including those of interrupted attempts."""
        return time.monotonic() - self.start

    def title(self, text: str) -> None:
        """Print the title of a step."""
        self.line(f"== {text}")

    def line(self, text: str) -> None:
        """Print a line."""
        if text != self.last:
            self.last = text
            print(f"{int(self.elapsed) // 60:3d}:{int(self.elapsed) % 60:02d}  {text}", flush=True)
