"""Reads the body of a request: bounded in size and time."""

import asyncio

from fastapi import HTTPException
from starlette.requests import Request


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """The whole body.

    Raises:
        HTTPException: 413 if it has more than `most` bytes, as soon as that is known; 408 if it is too slow.
        ClientDisconnect: the client is gone.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise HTTPException(413, f"the body has more than {most} bytes")
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not arrive within {seconds:.0f} seconds") from error
    return bytes(body)
