"""Clients of a storefront's images API, many at once: what each of them asked, and what it was told."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from deployments.problems import LONGEST_WAIT

ROUTE = "/v1/images/generations"
PROBLEM = "application/problem+json"
PATIENCE = 240.0  # seconds in which every request must be answered
SIZES, STEPS = ("64x64", "32x32"), (1, 2)


@dataclass(frozen=True)
class Answer:
    """The response to a request; status 0 for none, and why. It ended at a time of `time.monotonic`."""

    asked: dict[str, Any]
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    ended: float = field(default_factory=time.monotonic)

    @property
    def pictures(self) -> list[dict[str, Any]]:
        """Its pictures, each with what drew it."""
        return list(json.loads(self.text)["data"]) if self.status == 200 else []

    @property
    def turned_away(self) -> bool:
        """Whether the server had too many connections."""
        return (self.status, self.text) == (503, "Service Unavailable")

    @property
    def fault(self) -> str:
        """Why it is neither the pictures nor a clean error; empty if it is."""
        if self.status == 200:
            return "" if len(self.pictures) == self.asked["n"] else "it has another number of pictures"
        if self.turned_away:
            return ""
        if self.status not in (404, 429, 503) or self.headers.get("content-type") != PROBLEM:
            return f"status {self.status}: {self.text[:200]}"
        body, wait = json.loads(self.text), self.headers.get("retry-after", "")
        if body["status"] != self.status or not body["error"]["message"]:
            return f"it is no problem: {self.text[:200]}"
        if self.status != 404 and not 1 <= int(wait or 0) <= LONGEST_WAIT:
            return f"a Retry-After of {wait!r}"
        return ""


class Crowd:
    """Clients in threads, each of which sends a request after the other until `leave`; `names` are of models."""

    def __init__(self, url: str, names: Callable[[Random], str], clients: int = 12, seed: int = 0) -> None:
        self.url, self.names = url, names
        self.answers: list[Answer] = []
        self.stop = threading.Event()
        self.pool = ThreadPoolExecutor(clients)
        self.visits: list[Future[None]] = [self.pool.submit(self._visit, Random(f"{seed} {n}")) for n in range(clients)]

    def leave(self) -> list[Answer]:
        """Wait for the last answers; returns all."""
        self.stop.set()
        for visit in self.visits:
            visit.result()
        self.pool.shutdown()
        return self.answers

    def _visit(self, random: Random) -> None:
        with httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=PATIENCE) as client:
            while not self.stop.is_set():
                answer = post(client, self.url, body(random, self.names(random)))
                self.answers.append(answer)
                if answer.status != 200:
                    self.stop.wait(random.uniform(0.2, 1))


def body(random: Random, model: str, most: int = 3) -> dict[str, Any]:
    """A request of some kind."""
    return {
        "model": model,
        "prompt": f"{random.choice(['rings', 'dots', 'waves', 'a large net'])} in adire_style",
        "n": random.randint(1, most),
        "size": random.choice(SIZES),
        "steps": random.choice(STEPS),
        "seed": random.randrange(10**6),
    }


def post(client: httpx.Client, url: str, asked: dict[str, Any]) -> Answer:
    """Send a request, and wait for its answer."""
    try:
        got = client.post(url + ROUTE, json=asked)
    except httpx.HTTPError as error:
        return Answer(asked, 0, text=repr(error))
    return Answer(asked, got.status_code, dict(got.headers), got.text)


def hang_up(port: int, asked: dict[str, Any], part: float, wait: float) -> None:
    """Send a part of a request, wait for some seconds, and disconnect."""
    whole = _request(asked)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(whole[: max(1, round(part * len(whole)))])
        time.sleep(wait)


def burst(port: int, bodies: list[dict[str, Any]]) -> list[Answer]:
    """Send all these requests at once, each on a connection of its own."""

    async def all_of_them() -> list[Answer]:
        return await asyncio.gather(*(_alone(port, asked) for asked in bodies))

    return asyncio.run(all_of_them())


async def _alone(port: int, asked: dict[str, Any]) -> Answer:
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_request(asked))
            response = await reader.read()
            writer.close()
    except (OSError, TimeoutError) as error:
        return Answer(asked, 0, text=repr(error))
    return _parsed(asked, response.decode())


def _request(asked: dict[str, Any]) -> bytes:
    data = json.dumps(asked).encode()
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def _parsed(asked: dict[str, Any], response: str) -> Answer:
    head, _, text = response.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if not first.startswith("HTTP/1.1 "):
        return Answer(asked, 0, text=f"closed after {response[:100]!r}")
    if len(text) < int(headers.get("content-length", 0)):
        return Answer(asked, 0, headers, f"closed within the response {response[:100]!r}")
    return Answer(asked, int(first.split()[1]), headers, text)
