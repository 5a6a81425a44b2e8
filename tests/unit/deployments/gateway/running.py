"""A gateway on a real server in a thread, with API keys and models, and clients of it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from sqlalchemy import select

from deployments.gateway.app import Gateway, create_app
from deployments.gateway.database import arrivals
from deployments.serve import configure
from tasks.core.access.keys import create_key
from tasks.core.config.installation import Settings
from tasks.core.registry.models import apply_config
from tasks.core.store import Store, open_store
from tests.adire import adire

DATASET = "adire"  # the other is `lace`, of the model `lace`


@dataclass
class RunningGateway:
    """A gateway and what it needs."""

    url: str
    gateway: Gateway
    store: Store
    folder: Path
    keys: dict[str, str]  # of the roles ingest and visitor, and `lace`, for that model only

    def client(self, key: str = "ingest") -> httpx.Client:
        """A client with a key; `none` has none."""
        headers = {"Authorization": f"Bearer {self.keys[key]}"} if key in self.keys else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def arrivals(self) -> list[tuple[str, bool]]:
        """The keys of what is in the outbox, and which end an upload, oldest first."""
        with self.gateway.outbox.database.reading() as connection:
            rows = connection.execute(select(arrivals.c.key, arrivals.c.ready).order_by(arrivals.c.arrived))
            return [(row.key, row.ready) for row in rows]

    def stored(self) -> dict[str, bytes]:
        """The uploads of the dataset."""
        place = f"uploads/{DATASET}/"
        return {key.removeprefix(place): self.store.read(key) for key in self.store.list(place)}

    def received(self) -> list[str]:
        """Temporary files that have a name."""
        place = self.folder / "cache" / "received"
        return sorted(path.name for path in place.iterdir()) if place.exists() else []

    def refused(self) -> dict[str, float]:
        """How many requests were refused, by reason."""
        samples = [sample for metric in self.gateway.metrics.refused.collect() for sample in metric.samples]
        return {sample.labels["reason"]: sample.value for sample in samples if sample.name.endswith("_total")}

    def begin(self, path: str, length: int, body: bytes = b"") -> socket.socket:
        """A request to a path as it is, whose body has begun, on a connection of its own."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        connection = socket.create_connection((host, int(port)), 30)
        lines = [
            f"PUT {path} HTTP/1.1",
            f"Host: {host}",
            f"Authorization: Bearer {self.keys['ingest']}",
            f"Content-Length: {length}",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return connection


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def running_gateway(folder: Path, store: str = "", **settings: object) -> Iterator[RunningGateway]:
    """Serve; the store is a folder unless a URL is given."""
    opened = open_store(store or str(folder / "store"))
    keys = prepare(opened)
    usual = {"store": opened.url, "cache": folder / "cache", "poll_seconds": 0.1}
    values = Settings.model_validate(usual | settings)
    config = configure("gateway", "127.0.0.1", 0, values)
    app = create_app(values)
    config.app, config.factory = app, False
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    gateway: Gateway = app.state.gateway
    wait_until(lambda: gateway.keys.keys is not None)
    try:
        yield RunningGateway(f"http://127.0.0.1:{port}", gateway, opened, folder, keys)
    finally:
        server.should_exit = True
        thread.join(30)


def prepare(store: Store) -> dict[str, str]:
    """Models and keys of the tests, by name."""
    apply_config(store, adire())
    apply_config(store, adire(name="lace", datasets=["lace"]))
    return {
        "ingest": create_key(store, "ingest", "phone")[0],
        "visitor": create_key(store, "visitor", "shop")[0],
        "lace": create_key(store, "ingest", "lace", ("lace",))[0],
    }
