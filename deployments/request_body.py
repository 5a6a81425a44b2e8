"""Reads the body of a request: bounded in size and time."""

import asyncio

from starlette.requests import Request

from deployments.problems import ApiError


class BodyTooLarge(ApiError):
    """A body has more bytes than are taken."""

    status = 413

    def __init__(self, most: int) -> None:
        super().__init__(f"the body has more than {most} bytes")
        self.most = most


class BodyTooSlow(ApiError):
    """A body stopped arriving, or took too long."""

    status = 408

    def __init__(self, seconds: float, least: str = "the body") -> None:
        super().__init__(f"{least} did not arrive within {seconds:.0f} seconds")
        self.seconds = seconds


def require_size(request: Request, most: int) -> None:
    """Raise BodyTooLarge where the headers say so, before anything is read."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise BodyTooLarge(most)


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: it has more than `most` bytes; raised as soon as that is known.
        BodyTooSlow: it did not arrive in time.
        ClientDisconnect: the client is gone.
    """
    require_size(request, most)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise BodyTooLarge(most)
    except TimeoutError as error:
        raise BodyTooSlow(seconds) from error
    return bytes(body)
