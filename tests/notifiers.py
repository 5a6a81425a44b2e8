"""Senders of notifications: connections that post and wait for the answer, again until it is taken.

Written on sockets: a client library takes longer for a request than the gateway, on the same machine.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PAUSE_SECONDS = 0.05  # of a sender that was not answered 202
ANSWER_SECONDS = 60.0  # for an answer


@dataclass
class Senders:
    """Posts bodies over several connections at once."""

    url: str
    token: str
    waits: list[float] = field(default_factory=list)  # seconds until each request was answered 202
    repeated: int = 0  # requests that were not
    taken: int = 0

    async def send(self, bodies: Iterable[bytes], connections: int) -> None:
        """Post all bodies; returns when each was answered 202."""
        left = deque(bodies)
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._send_some(left))

    async def _send_some(self, left: deque[bytes]) -> None:
        connection = _Connection(self.url, self.token)
        while left:
            body = left.popleft()
            start = time.perf_counter()
            while await connection.post(body) != 202:
                self.repeated += 1
                await asyncio.sleep(PAUSE_SECONDS)
                start = time.perf_counter()
            self.waits.append(time.perf_counter() - start)
            self.taken += 1
        connection.close()


class _Connection:
    """A connection of HTTP/1.1, made anew after a failure."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self.address = parts.hostname, parts.port
        self.head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
        self.head += "Content-Type: application/json\r\nContent-Length: "
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def post(self, body: bytes) -> int:
        """The status of the answer; 0 without one."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._post(body)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.close()
            return 0

    async def _post(self, body: bytes) -> int:
        if not self.reader or not self.writer:
            self.reader, self.writer = await asyncio.open_connection(*self.address)
        self.writer.write(f"{self.head}{len(body)}\r\n\r\n".encode() + body)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        await self.reader.readexactly(int(fields["content-length"]))
        if fields.get("connection") == "close":
            self.close()
        return int(head.split(" ", 2)[1])

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self.writer:
            with suppress(RuntimeError):
                self.writer.close()
        self.reader = self.writer = None


def record(bucket: str, key: str, number: int) -> bytes:
    """A notification of one object, as AWS sends it."""
    return (
        '{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"eu-west-1",'
        '"eventTime":"2026-11-27T01:02:03.000Z","eventName":"ObjectCreated:Put","userIdentity":{"principalId":"A1"},'
        '"requestParameters":{"sourceIPAddress":"10.0.0.1"},"responseElements":{"x-amz-request-id":"R",'
        '"x-amz-id-2":"I"},"s3":{"s3SchemaVersion":"1.0","configurationId":"uploads","bucket":{"name":"'
        f'{bucket}","ownerIdentity":{{"principalId":"A1"}},"arn":"arn:aws:s3:::{bucket}"}},"object":{{"key":"{key}",'
        f'"size":1024,"eTag":"{number:032x}","sequencer":"{number:016X}"}}}}}}]}}'
    ).encode()
