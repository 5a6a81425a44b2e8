"""Notifications of uploads over 32 connections, beside an endpoint that reads the same bodies and stores nothing."""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tasks.core.registry.models import apply_config
from tasks.core.store import open_store
from tests.adire import adire
from tests.bench_table import Row, row, show
from tests.gateway_process import gateway
from tests.notifiers import Senders, record
from tests.postgres_server import postgres_server
from tests.s3_server import free_ports

CONNECTIONS, REQUESTS = 32, 3000
TOKEN = "a-token-of-the-benchmark"
START_SECONDS = 60


def notifications(runs: int = 5) -> list[Row]:
    """Accepted a second, and how long a sender waits: the gateway on SQLite and on Postgres, and the bare endpoint."""
    rates, waits = dict[str, list[float]](), dict[str, list[float]]()
    with TemporaryDirectory() as folder, postgres_server() as server:
        settings = {"store": f"{folder}/store", "webhook_token": TOKEN, "cache": f"{folder}/cache", "device": "cpu"}
        apply_config(open_store(settings["store"]), adire(datasets=["cloth"]))
        sqlite, postgres = f"sqlite:///{folder}/outbox.db", server.new_database()
        with (
            gateway(outbox=sqlite, **settings) as on_sqlite,
            gateway(outbox=postgres, **settings) as on_postgres,
            _bare() as bare,
        ):
            urls = {"bare endpoint": bare, "SQLite": on_sqlite.url, "Postgres": on_postgres.url}
            for run in range(-1, runs):
                for name, url in urls.items():
                    rate, waited = asyncio.run(_measure(url, run))
                    if run >= 0:  # the first one warms up
                        rates.setdefault(name, []).append(rate)
                        waits.setdefault(name, []).extend(waited)
    return _rows(rates, waits, runs)


async def _measure(url: str, run: int) -> tuple[float, list[float]]:
    numbers = range(run * REQUESTS, (run + 1) * REQUESTS)
    bodies = [record("cloths", f"uploads/cloth/{number}.png", number + REQUESTS) for number in numbers]
    senders = Senders(f"{url}/hooks/s3", TOKEN)
    start = time.perf_counter()
    await senders.send(bodies, CONNECTIONS)
    assert senders.repeated == 0
    return REQUESTS / (time.perf_counter() - start), senders.waits


def _rows(rates: dict[str, list[float]], waits: dict[str, list[float]], runs: int) -> list[Row]:
    measures: dict[str, Callable[[str], float]] = {
        "accepted a second": lambda name: statistics.median(rates[name]),
        "p50, ms": lambda name: 1000 * statistics.median(waits[name]),
        "p99, ms": lambda name: 1000 * statistics.quantiles(waits[name], n=100)[98],
    }
    show("notifications", [{"": name, **{of: measure(name) for of, measure in measures.items()}} for name in rates])
    return [
        row(f"notifications on {name}, {of}", of, measure(name), "bare endpoint", measure("bare endpoint"), runs)
        for name in rates
        if name != "bare endpoint"
        for of, measure in measures.items()
    ]


@contextmanager
def _bare() -> Iterator[str]:
    (port,) = free_ports(1)
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-m", "tests.bare_endpoint", str(port)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], env=os.environ, stdout=quiet, stderr=quiet)
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/")
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
