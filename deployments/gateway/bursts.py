"""Makes one event of a burst of notifications: when a dataset is quiet, waited long enough, or was declared ready."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from deployments.gateway.inbox import READY, Inbox

RETRY_SECONDS = 30.0  # after which a store that failed is tried again

log = logging.getLogger("dyeworks.webhook")


@dataclass
class Burst:
    """Pending notifications about a dataset; times are those of `time.monotonic`."""

    first: float
    last: float
    names: set[str] = field(default_factory=set)

    def add(self, names: Collection[str], now: float) -> bool:
        """Add notifications; returns whether one of them is new, which prolongs the burst."""
        fresh = not self.names.issuperset(names)
        if fresh:
            self.names.update(names)
            self.last = now
        return fresh

    def end(self, quiet: float, longest: float) -> float:
        """When the event is due: at once if the upload was declared ready."""
        ready = any(name.startswith(READY) for name in self.names)
        return self.first if ready else min(self.last + quiet, self.first + longest)


class Gatherer:
    """Waits for the end of each dataset's burst, then has its event queued.

    The inbox is also read at the start and every `longest` seconds, for what a process that was killed has left.
    Several processes may share a store: what others have taken prolongs a burst like one's own. At worst two of them
    queue an event for the same notifications.
    """

    def __init__(self, inbox: Callable[[], Inbox], quiet: float, longest: float, wake: Callable[[], None]) -> None:
        """`wake` is called when an event was queued."""
        self._inbox, self._quiet, self._longest, self._wake = inbox, quiet, longest, wake
        self._bursts: dict[str, Burst] = {}
        self._arrival = asyncio.Event()

    def arrived(self, dataset: str, names: Collection[str]) -> None:
        """Notifications that are in the inbox; to be called on the event loop."""
        self._add(dataset, names)
        self._arrival.set()

    async def run(self) -> None:
        """Queue events until cancelled."""
        look = time.monotonic()
        while True:
            try:
                if time.monotonic() >= look:
                    look = time.monotonic() + self._longest
                    await self._look()
                for dataset in self._due():
                    await self._settle(dataset)
            except Exception:  # the store is unavailable; what it holds is pending
                log.exception("notifications are pending, and tried again in %.0f s", RETRY_SECONDS)
                look = time.monotonic() + RETRY_SECONDS
                await asyncio.sleep(RETRY_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrival.wait(), self._wait(look))
            self._arrival.clear()

    def _wait(self, look: float) -> float:
        ends = [burst.end(self._quiet, self._longest) for burst in self._bursts.values()]
        return max(0.0, min([look, *ends]) - time.monotonic())

    def _due(self) -> list[str]:
        now = time.monotonic()
        return [name for name, burst in self._bursts.items() if burst.end(self._quiet, self._longest) <= now]

    async def _look(self) -> None:
        for dataset, names in (await asyncio.to_thread(lambda: self._inbox().pending())).items():
            self._add(dataset, names)

    async def _settle(self, dataset: str) -> None:
        """Queue the event of a dataset, unless other processes have taken notifications a moment ago."""
        names = (await asyncio.to_thread(lambda: self._inbox().pending(dataset)))[dataset]
        self._add(dataset, names)
        if dataset not in self._due():
            return
        del self._bursts[dataset]
        if names:
            await asyncio.to_thread(lambda: self._inbox().settle(dataset, names))
            log.info("dataset %s: one event for %d notifications", dataset, len(names))
            self._wake()

    def _add(self, dataset: str, names: Collection[str]) -> None:
        now = time.monotonic()
        self._bursts.setdefault(dataset, Burst(now, now)).add(names, now)
