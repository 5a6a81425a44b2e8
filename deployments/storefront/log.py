"""A log's writer: gathers lines for a moment, then writes them as one object."""

import logging
import threading
from collections.abc import Callable
from typing import Generic

from tasks.core.data.hourly import L

log = logging.getLogger("dyeworks.storefront")


class LogWriter(Generic[L]):
    """Lines are kept until the store has them."""

    def __init__(self, name: str, write: Callable[[list[L]], None], seconds: float) -> None:
        self.name, self.write, self.seconds = name, write, seconds
        self.lines: list[L] = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self.thread.start()

    def stop(self) -> None:
        """Write what is left and end."""
        self.stopping.set()
        self.thread.join(timeout=30)

    def add(self, line: L) -> None:
        """Take a line."""
        with self.lock:
            self.lines.append(line)

    def _work(self) -> None:
        while not self.stopping.wait(self.seconds):
            self._write()
        self._write()

    def _write(self) -> None:
        with self.lock:
            lines, self.lines = self.lines, []
        if not lines:
            return
        try:
            self.write(lines)
        except Exception as error:  # the thread's boundary: whatever a store's client raises, the lines are kept
            log.error("%d lines of the %s wait for the store: %s", len(lines), self.name, error)
            with self.lock:
                self.lines = lines + self.lines
