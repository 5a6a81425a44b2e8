"""A batching log writer: lines are spooled, and written to the store by time or number, as one object an hour."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic

from deployments.storefront.spool import Spool
from tasks.core.errors import DocumentInvalid
from tasks.core.store.documents import parse
from tasks.core.traffic.hourly import L

log = logging.getLogger("dyeworks.storefront")
MOST_LINES = 1000  # from which they are written before the time is over


class BatchWriter(Generic[L]):
    """Lines of one kind, held by the spool until they are stored; if there are too many, the oldest are dropped."""

    def __init__(
        self, name: str, kind: type[L], write: Callable[[list[L]], None], spool: Spool, seconds: float
    ) -> None:
        self.name, self.kind, self.write, self.spool, self.seconds = name, kind, write, spool, seconds
        self.added = 0  # lines since the last attempt to write
        self.oldest: float | None = None  # when the oldest line that is not stored was added; None: all are
        self.stopping, self.wake = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the writer's thread."""
        self.thread.start()

    def stop(self) -> None:
        """Write the lines and stop; those that cannot be stored now stay in the spool, which is logged."""
        self.stopping.set()
        self.wake.set()
        self.thread.join(timeout=30)
        if not self.thread.is_alive():
            self._log_left()
            self.spool.close()

    def add(self, line: L) -> None:
        """Append a line to the spool."""
        self.spool.add(line.model_dump_json().encode())
        self.added += 1
        self.oldest = self.oldest or time.monotonic()
        if self.added >= MOST_LINES:
            self.wake.set()

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest line that the store does not have."""
        return time.monotonic() - self.oldest if self.oldest else 0.0

    def _work(self) -> None:
        while not self.stopping.is_set():
            self.wake.wait(self.seconds)
            self.wake.clear()
            if not self.stopping.is_set():
                self._write()
        self._write()

    def _write(self) -> None:
        self.added, begin = 0, time.monotonic()
        try:
            if found := self.spool.take_over():
                log.warning("%d lines of the %s were left by another process and are stored now", found, self.name)
            for segment, lines in self.spool.pending():
                if lines:
                    self.write(list(self._parsed(lines)))
                self.spool.remove(segment)
        except Exception as error:  # thread boundary: on any error of a store's client the lines stay in the spool
            waiting = self.spool.waiting
            log.error("%d lines of the %s could not be stored and are retried: %s", waiting, self.name, error)
        else:
            self.oldest = begin if self.spool.waiting else None
            self._log_dropped()

    def _parsed(self, lines: list[bytes]) -> Iterator[L]:
        """The lines that can be read: an earlier version may not know what a later one has left."""
        for line in lines:
            try:
                yield parse(self.kind, line, f"the spool {self.spool.folder}")
            except DocumentInvalid as error:
                log.error("a line of the %s is left out: %s", self.name, error)

    def _log_dropped(self) -> None:
        if dropped := self.spool.forget_dropped():
            log.error("%d lines of the %s were dropped: the store was unavailable for too long", dropped, self.name)

    def _log_left(self) -> None:
        self._log_dropped()
        if lost := self.spool.in_memory:
            log.error("the last %d lines of the %s are lost: they could not be stored", lost, self.name)
        if left := self.spool.waiting - lost:
            log.warning("%d lines of the %s stay in %s for the next storefront", left, self.name, self.spool.folder)
