"""Events are sent in the background: who notifies the webhook need not wait for the Prefect server."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from tasks.core.errors import EventRefused, EventUndelivered
from tasks.core.outbox import flush
from tasks.core.store import Store

AGAIN_SECONDS = 30.0  # after which what the server did not take is sent again

log = logging.getLogger("dyeworks.webhook")


class Sender:
    """Sends what waits in the outbox, once for all who ask while it is busy, and again while something is left."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open, self._woken = open_store, asyncio.Event()

    def wake(self) -> None:
        """Send as soon as may be; to be called on the event loop."""
        self._woken.set()

    async def run(self) -> None:
        """Send until cancelled; first what an earlier process has left."""
        while True:
            wait = None if await asyncio.to_thread(self._send) else AGAIN_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait)
            self._woken.clear()

    def _send(self) -> bool:
        """Whether all that waited was sent."""
        try:
            flush(self._open())
        except (EventRefused, EventUndelivered) as error:
            log.warning("%s", error)
            return False
        except Exception:  # the store is away; the next try may find it
            log.exception("the outbox cannot be read")
            return False
        return True
