"""A batching log writer: collects lines for some seconds, then writes them as one object."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic

from tasks.core.traffic.hourly import L

log = logging.getLogger("dyeworks.storefront")
WAITING = 20_000  # maximum number of buffered lines; the newest are kept: about 20 MB


class BatchWriter(Generic[L]):
    """Lines are buffered until they are stored; if there are too many, the oldest are dropped."""

    def __init__(self, name: str, write: Callable[[list[L]], None], seconds: float, waiting: int = WAITING) -> None:
        self.name, self.write, self.seconds = name, write, seconds
        self.lines: deque[L] = deque(maxlen=waiting)
        self.dropped = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the writer's thread."""
        self.thread.start()

    def stop(self) -> None:
        """Write the buffered lines and stop; lines that cannot be stored now are lost, which is logged."""
        self.stopping.set()
        self.thread.join(timeout=30)
        if self.lines or self.thread.is_alive():
            log.error("the last lines of the %s are lost: they could not be stored", self.name)

    def add(self, line: L) -> None:
        """Buffer a line."""
        with self.lock:
            self._append(line)

    def _append(self, line: L) -> None:
        self.dropped += len(self.lines) == self.lines.maxlen
        self.lines.append(line)

    def _work(self) -> None:
        while not self.stopping.wait(self.seconds):
            self._write()
        self._write()

    def _write(self) -> None:
        with self.lock:
            lines, self.lines = self.lines, deque[L](maxlen=self.lines.maxlen)
        if not lines:
            return
        try:
            self.write(list(lines))
        except Exception as error:  # thread boundary: on any error of a store's client the lines stay buffered
            log.error("%d lines of the %s could not be stored and are retried: %s", len(lines), self.name, error)
            self._put_back(lines)
        else:
            self._log_dropped()

    def _put_back(self, lines: "deque[L]") -> None:
        with self.lock:
            newer, self.lines = self.lines, lines
            for line in newer:
                self._append(line)

    def _log_dropped(self) -> None:
        with self.lock:
            dropped, self.dropped = self.dropped, 0
        if dropped:
            log.error("%d lines of the %s were dropped: the store was unavailable for too long", dropped, self.name)
