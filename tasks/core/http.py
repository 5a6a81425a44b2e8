"""HTTP requests that are tried again, with jittered exponential back-off and a deadline for all tries together.

A Prefect server on SQLite answers 503, or nothing at all, while its database is locked.
"""

import asyncio
import random
import time
from collections.abc import Callable, Container

import httpx

from tasks.core.errors import DyeworksError

TRIES = 7
FIRST_WAIT = 0.2  # seconds, doubled each time; each wait is between half of that and the whole
SECONDS = 20.0  # for all tries and waits of a request
BUSY = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class AnswerTooLong(DyeworksError):
    """A response has more bytes than are read."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the answer is longer than {most:,} bytes")
        self.most = most


class RetryTransport(httpx.HTTPTransport):
    """Repeats a request that was answered 429 or 503, or got no response."""

    def __init__(self, once: bool = False, seconds: float = SECONDS) -> None:
        super().__init__()
        self.once, self.seconds = once, seconds

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return the last response or raise the last error."""
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        send_once = super().handle_request

        def send(left: float) -> httpx.Response:
            request.extensions["timeout"] = {k: left if v is None else min(v, left) for k, v in timeouts.items()}
            return send_once(request)

        return repeat(send, self.seconds, self.once)


def repeat(
    send: Callable[[float], httpx.Response],
    seconds: float = SECONDS,
    once: bool = False,
    tries: int = TRIES,
    busy: Container[int] = BUSY,
) -> httpx.Response:
    """Send a request, given the seconds that are left, until it is answered by none of the `busy` statuses.

    With `once` it is repeated only where it surely had no effect: the connection failed, or the server was busy and
    sent `Retry-After`. Returns the last response, or raises the last error.
    """
    deadline = time.monotonic() + seconds
    for attempt in range(tries):
        wait = FIRST_WAIT * 2**attempt * random.uniform(0.5, 1)
        again = attempt + 1 < tries
        try:
            response = send(deadline - time.monotonic())
        except httpx.TransportError as error:
            unsent = isinstance(error, NOT_SENT)
            if not again or (once and not unsent) or time.monotonic() >= deadline - wait:
                raise
        else:
            asked = retry_after(response)
            wait = max(wait, asked or 0.0)
            allowed = again and (asked is not None or not once) and time.monotonic() < deadline - wait
            if response.status_code not in busy or not allowed:
                return response
            response.close()
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


async def ask_bounded(
    client: httpx.AsyncClient, method: str, url: httpx.URL | str, most: int, seconds: float, json: object = None
) -> httpx.Response:
    """A response of at most so many bytes, within so many seconds as a whole, in case it comes byte after byte.

    Raises:
        AnswerTooLong: it has more bytes.
        httpx.HTTPError: ReadTimeout if it takes longer, else what the client raises.
    """
    data, plain = bytearray(), {"Accept-Encoding": "identity"}
    try:
        async with (
            asyncio.timeout(seconds),
            client.stream(method, url, json=json, headers=plain, timeout=None) as response,
        ):
            async for part in response.aiter_raw():
                data += part
                if len(data) > most:
                    raise AnswerTooLong(most)
    except TimeoutError as error:
        raise httpx.ReadTimeout("the answer takes too long") from error
    return httpx.Response(response.status_code, headers=_kept(response.headers), content=bytes(data))


def _kept(headers: httpx.Headers) -> dict[str, str]:
    return {name: headers[name] for name in ("retry-after", "content-type") if name in headers}


def retry_after(response: httpx.Response) -> float | None:
    """Seconds of the `Retry-After` header; None without one, or where it is a date."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() else None
