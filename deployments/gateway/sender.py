"""Sends events in the background, so that requests to the webhook do not wait for the Prefect server."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from tasks.core.errors import EventRefused, EventUndelivered
from tasks.core.installation import Installation
from tasks.core.outbox import flush

RETRY_SECONDS = 30.0  # after which undelivered events are sent again

log = logging.getLogger("dyeworks.webhook")


class Sender:
    """Flushes the outbox: once for all wake-ups while it is busy, and periodically while events are left."""

    def __init__(self, opened: Callable[[], Installation]) -> None:
        self._open, self._woken = opened, asyncio.Event()

    def wake(self) -> None:
        """Send as soon as possible; to be called on the event loop."""
        self._woken.set()

    async def run(self) -> None:
        """Send until cancelled, first the events left by an earlier process."""
        while True:
            wait = None if await asyncio.to_thread(self._send) else RETRY_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait)
            self._woken.clear()

    def _send(self) -> bool:
        """Flush the outbox; returns whether it is empty."""
        try:
            installation = self._open()
            flush(installation.store, installation.server)
        except (EventRefused, EventUndelivered) as error:
            log.warning("%s", error)
            return False
        except Exception:  # the store is unavailable; retried later
            log.exception("the outbox cannot be read")
            return False
        return True
