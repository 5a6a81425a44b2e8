"""Notifications under load, while gateway and Prefect die: each object is in one batch, and each batch has one run."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from sqlalchemy import select

from deployments.gateway.batches import UploadBatches
from deployments.gateway.database import Database, arrivals, batches
from deployments.stack import Stack
from tests.e2e.deployments.server import DYEWORKS
from tests.gateway_process import GatewayProcess, gateway
from tests.notifiers import Senders, record
from tests.waiting import wait_for

DATASETS = ("adire", "cloth", "linen", "wool", "silk")
DELIVERIES, CONNECTIONS = 3, 32
PAGE = 200  # runs in one answer of Prefect
RUN_SECONDS = 300


class Load(NamedTuple):
    """How many objects are announced, and how often the gateway is killed meanwhile."""

    objects: int
    kills: int


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Prefect server with the deployments, and no worker: runs stay scheduled."""
    running = Stack(tmp_path_factory.mktemp("load"))
    try:
        running.start_prefect()
        running.run(DYEWORKS, "bootstrap")
        running.run(str(Path(DYEWORKS).parent / "prefect"), "--no-prompt", "deploy", "--name", "ingest-upload")
        yield running
    finally:
        running.stop()


@pytest.mark.e2e
@pytest.mark.parametrize("load", [Load(300, 1), pytest.param(Load(10_000, 5), marks=pytest.mark.slow)], ids=str)
def test_every_object_is_in_one_batch_and_every_batch_has_one_run(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Load
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{stack.url('server')}/api")
    url = f"sqlite:///{tmp_path / 'outbox.db'}"
    waits = {"upload_quiet_seconds": "0.3", "upload_longest_seconds": "1"}
    keys = [f"{random.Random(number).choice(DATASETS)}/{number}.png" for number in range(load.objects)]
    before = {run.idempotency_key for run in runs(stack)}
    with gateway(outbox=url, store="s3://cloths", webhook_token="a-long-token", **waits) as running:
        senders = Senders(f"{running.url}/hooks/s3", running.token)
        asyncio.run(deliver(senders, keys, running, stack, load.kills))
        found = UploadBatches(Database(url))
        wait_for(lambda: found.state() == (0, 0, 0, 0.0), "a run for every batch", RUN_SECONDS)
    started = [run for run in runs(stack) if run.idempotency_key not in before]
    check(Database(url), keys, started)
    repeated = f"{senders.repeated} requests were repeated"
    print(f"{load}: {senders.taken} taken, {repeated}, {len(started)} batches and runs")


async def deliver(senders: Senders, keys: list[str], running: GatewayProcess, stack: Stack, kills: int) -> None:
    """Deliver each notification thrice, in any order, while the gateway is killed and Prefect is away."""
    bodies = [record("cloths", f"uploads/{key}", number) for number, key in enumerate(keys)] * DELIVERIES
    random.Random(1).shuffle(bodies)

    def restart() -> None:
        running.kill()
        running.start()

    def end_prefect() -> None:
        stack.processes["server"].kill()
        stack.processes["server"].wait()

    events: list[tuple[float, Callable[[], None]]] = [
        *(((each + 1) / (kills + 1), restart) for each in range(kills)),
        (0.2, end_prefect),
        (0.8, stack.start_prefect),
    ]
    sending = asyncio.create_task(senders.send(bodies, CONNECTIONS))
    for share, happen in sorted(events, key=lambda event: event[0]):
        reached = partial(_has_sent, senders, int(share * len(bodies)))
        await asyncio.to_thread(wait_for, reached, f"{share:.0%} of the deliveries", RUN_SECONDS)
        await asyncio.to_thread(happen)
    await sending


def _has_sent(senders: Senders, number: int) -> bool:
    return senders.taken >= number


def check(database: Database, keys: list[str], started: list[FlowRun]) -> None:
    """Fails unless the rows are the objects, each in one batch, and the runs are the batches."""
    with database.reading() as connection:
        rows = connection.execute(select(arrivals.c.dataset, arrivals.c.key, arrivals.c.batch)).all()
        made = connection.execute(select(batches.c.id, batches.c.dataset, batches.c.objects, batches.c.run)).all()
    assert sorted(f"{dataset}/{key}" for dataset, key, _ in rows) == sorted(keys)
    assert Counter(batch for _, _, batch in rows) == {name: objects for name, _, objects, _ in made}
    assert {(batch, dataset) for dataset, _, batch in rows} == {(name, dataset) for name, dataset, _, _ in made}
    wanted = sorted((f"upload-{name}", run, dataset) for name, dataset, _, run in made)
    assert wanted == sorted(
        (str(one.idempotency_key), str(one.id), one.parameters["spec"]["dataset"]) for one in started
    )


def runs(stack: Stack) -> list[FlowRun]:
    """All runs of the Prefect server."""
    found = list[FlowRun]()
    with temporary_settings({PREFECT_API_URL: f"{stack.url('server')}/api"}), get_client(sync_client=True) as client:
        while page := client.read_flow_runs(limit=PAGE, offset=len(found)):
            found += page
    return found
