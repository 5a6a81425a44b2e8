"""A body of any size in a temporary file: bounded, hashed on its way, and gone when the process is."""

import asyncio
import base64
import hashlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

from starlette.requests import Request

from deployments.problems import ApiError
from deployments.request_body import BodyTooLarge, BodyTooSlow, require_size

CHUNK_BYTES = 2**20  # that are written at once
IDLE_SECONDS, IDLE_BYTES = 60.0, 2**14  # the slowest body: so many bytes within each of these periods
ROOM_BYTES = 2**29  # that stay free on the disk
DIGEST = re.compile(r"sha-256\s*=\s*:([A-Za-z0-9+/]{43}=):\s*(;.*)?", re.IGNORECASE)


class DigestWrong(ApiError):
    """A body is not what its Content-Digest says, or that header cannot be read."""

    code = "wrong_digest"


class DiskUnusable(ApiError):
    """There is no room for a body, or its folder cannot be written."""

    status = 507
    code = "unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__("the gateway's disk is full, or cannot be written; send it again later", retry_after=60)
        self.reason = reason


class ReceivedFile:
    """A temporary file without a name, and the hashes of what was written into it."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most, self.size = folder, most, 0
        with _disk():
            folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by `close`
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

    @property
    def sha256(self) -> str:
        """In hexadecimal digits."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """What most object stores call the ETag of such an object."""
        return self._md5.hexdigest()

    def write(self, data: bytes) -> None:
        """Add to the file; raises BodyTooLarge or DiskUnusable."""
        self.size += len(data)
        if self.size > self.most:
            raise BodyTooLarge(self.most)
        with _disk():
            if shutil.disk_usage(self.folder).free < ROOM_BYTES + len(data):
                raise DiskUnusable(f"fewer than {ROOM_BYTES} bytes would be free in {self.folder}")
            self.file.write(data)
        self._sha256.update(data)
        self._md5.update(data)

    def close(self) -> None:
        """Remove the file."""
        self.file.close()


@asynccontextmanager
async def received_file(request: Request, most: int, folder: Path, pool: Executor) -> AsyncIterator[ReceivedFile]:
    """The body of a request in a file of the folder, for the block.

    Raises:
        BodyTooLarge: it has more than `most` bytes; at once where the headers say so.
        BodyTooSlow: it stopped arriving. The whole may take any time: a phone's line is slow.
        DigestWrong: it does not match its Content-Digest (RFC 9530).
        DiskUnusable: there is no room for it.
        ClientDisconnect: the client is gone.
    """
    expected = _expected(request)
    require_size(request, most)
    loop = asyncio.get_running_loop()
    with closing(await loop.run_in_executor(pool, ReceivedFile, folder, most)) as received:
        async for chunk in _chunks(request):
            await loop.run_in_executor(pool, received.write, chunk)
        if expected is not None and received.sha256 != expected:
            raise DigestWrong(f"the sha-256 of the body is {received.sha256}, and its Content-Digest is {expected}")
        yield received


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskUnusable(str(error)) from error


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body in large pieces."""
    waiting, stream, loop = bytearray(), request.stream().__aiter__(), asyncio.get_running_loop()
    since, arrived = loop.time(), 0
    while True:
        try:
            async with asyncio.timeout_at(since + IDLE_SECONDS):
                part = await anext(stream)
        except StopAsyncIteration:
            break
        except TimeoutError as error:
            raise BodyTooSlow(IDLE_SECONDS, f"{IDLE_BYTES} bytes of the body") from error
        waiting += part
        arrived += len(part)
        if arrived >= IDLE_BYTES:
            since, arrived = loop.time(), 0
        if len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting)
            waiting.clear()
            since = loop.time()
    yield bytes(waiting)


def _expected(request: Request) -> str | None:
    """The sha256 of the body by its header, in hexadecimal digits; other algorithms are ignored, as RFC 9530 says."""
    members = [part.strip() for line in request.headers.getlist("content-digest") for part in line.split(",")]
    mine = [part for part in members if part.lower().startswith("sha-256")]
    if not mine:
        return None
    if len(mine) > 1 or not (found := DIGEST.fullmatch(mine[0])):
        raise DigestWrong("the Content-Digest must be `sha-256=:<base64>:`", "Content-Digest")
    return base64.b64decode(found[1]).hex()
