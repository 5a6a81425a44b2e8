"""Console output of the demo: lines with the elapsed time, and one of progress that is replaced."""

import sys
import time
from typing import TextIO

RARELY = 20.0  # seconds between two lines of progress where they cannot be replaced
CLEAR = "\r\x1b[K"


class Console:
    """Prints lines with the elapsed time; the same line is not printed twice in a row."""

    def __init__(self, before: float = 0.0, out: TextIO | None = None) -> None:
        self.start, self.out = time.monotonic() - before, out or sys.stdout
        self.last, self.shown = "", False  # the last line; whether progress stands below it
        self.next = 0.0  # when progress is due where it cannot be replaced

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
            self._print(f"{self._time()}  {text}\n")

    def progress(self, text: str) -> None:
        """Show progress: a line that is replaced on a terminal, else a line now and then."""
        if self.out.isatty():
            self._print(f"{self._time()}     {text}")
            self.shown = True
        elif self.elapsed >= self.next:
            self.next = self.elapsed + RARELY
            self.line(f"   {text}")

    def _time(self) -> str:
        return f"{int(self.elapsed) // 60:3d}:{int(self.elapsed) % 60:02d}"

    def _print(self, text: str) -> None:
        """Print in the place of the progress, if some is shown."""
        self.out.write((CLEAR if self.shown else "") + text)
        self.out.flush()
        self.shown = False
