"""HTTP requests that are tried again, with jittered exponential back-off and a deadline for all tries together.

A Prefect server on SQLite answers 503, or nothing at all, while its database is locked.
"""

import random
import time

import httpx

TRIES = 7
FIRST_WAIT = 0.2  # seconds, doubled each time; each wait is between half of that and the whole
SECONDS = 20.0  # for all tries and waits of a request
BUSY = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class RetryTransport(httpx.HTTPTransport):
    """Repeats a request that was answered 429 or 503, or got no response.

    With `once` a request is repeated only where it surely had no effect: the connection failed, or the server was busy
    and sent `Retry-After`.
    """

    def __init__(self, once: bool = False, seconds: float = SECONDS) -> None:
        super().__init__()
        self.once, self.seconds = once, seconds

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return the last response or raise the last error."""
        deadline = time.monotonic() + self.seconds
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        for attempt in range(TRIES):
            left = deadline - time.monotonic()
            request.extensions["timeout"] = {k: left if v is None else min(v, left) for k, v in timeouts.items()}
            wait = FIRST_WAIT * 2**attempt * random.uniform(0.5, 1)
            try:
                response = super().handle_request(request)
            except httpx.TransportError as error:
                if not self._again(attempt, deadline - wait, isinstance(error, NOT_SENT)):
                    raise
            else:
                asked = _retry_after(response)
                wait = max(wait, asked or 0.0)
                repeat = response.status_code in BUSY and self._again(attempt, deadline - wait, asked is not None)
                if not repeat:
                    return response
                response.close()
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _again(self, attempt: int, latest: float, unsent: bool) -> bool:
        """Whether to try again: it is allowed, and its wait ends before the deadline."""
        return attempt + 1 < TRIES and time.monotonic() < latest and (unsent or not self.once)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of the `Retry-After` header; None without one, or where it is a date."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() else None
