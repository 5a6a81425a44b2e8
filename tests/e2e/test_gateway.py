"""From an upload to a retrain: SeaweedFS with its filer's webhook, gateway, outbox, Prefect, worker, store."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from boto3.s3.transfer import TransferConfig

from tasks.core.data.dataset import head_key, load_manifest
from tasks.core.store import Store, open_store
from tests.adire import adire
from tests.e2e.deployments.server import Server
from tests.odd_pictures import encoded, noise
from tests.s3_server import BUCKET, connect, free_ports, s3_server

pytestmark = pytest.mark.e2e
PREFIX = "ring"
TOKEN = "the-token-of-the-filer"
SMALL, LARGE = 5, (1400, 1400)  # pictures of one request; the size of one that is sent in parts
WEBHOOK = """
[notification.webhook]
enabled = true
endpoint = "http://127.0.0.1:{port}/hooks/s3"
bearer_token = "{token}"
"""


class Installation:
    """A bucket, a server with all deployments, and a gateway that the bucket's filer notifies."""

    def __init__(self, home: Path, port: int) -> None:
        self.s3, self.home = connect(), home
        self.server = Server(home, [adire()], f"s3://{BUCKET}/{PREFIX}", ["default"])
        self.server.stack.ports["gateway"] = port
        self.server.stack.token = TOKEN
        self.server.stack.start_gateway()
        self.server.stack.wait("gateway", "/readyz")
        self.store: Store = open_store(f"s3://{BUCKET}/{PREFIX}")

    def put(self, name: str, data: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/uploads/adire/{name}", Body=data)

    def put_in_parts(self, name: str, data: bytes) -> None:
        parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
        self.s3.upload_fileobj(BytesIO(data), BUCKET, f"{PREFIX}/uploads/adire/{name}", Config=parts)

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The runs of a deployment."""
        body = {"flows": {"name": {"any_": [name]}}}
        found: list[dict[str, Any]] = self.server.client.post("/flow_runs/filter", json=body).json()
        return found

    def arrivals(self) -> list[tuple[str, str]]:
        """The keys in the outbox, each with its batch."""
        with closing(sqlite3.connect(self.home / "outbox.db")) as database:
            return sorted(database.execute("SELECT key, coalesce(batch, '') FROM dyeworks_arrivals"))

    def metrics(self) -> str:
        return httpx.get(f"{self.server.stack.url('gateway')}/metrics").text


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("gateway")
    (port,) = free_ports(1)
    with s3_server(WEBHOOK.format(port=port, token=TOKEN)) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in (environment | {"DYEWORKS_UPLOAD_QUIET_SECONDS": "3"}).items():
            patch.setenv(name, value)
        started = list[Installation]()
        try:
            started.append(Installation(home, port))
            yield started[0]
        finally:
            for one in started:
                one.server.stack.stop()


def test_uploads_to_a_bucket_start_one_ingest_and_a_retrain(installation: Installation) -> None:
    names = [f"a b+{number}.png" for number in range(SMALL)]
    for number, name in enumerate(names):
        installation.put(name, encoded(noise(number, 96, 96)))
    large = encoded(noise(99, *LARGE))
    assert len(large) > 5 << 20
    installation.put_in_parts("large.png", large)
    until = installation.server.until
    until(lambda: installation.store.exists(head_key("adire")), "a dataset version")
    until(lambda: installation.runs("retrain-model"), "a retrain")
    arrivals = installation.arrivals()
    assert [key for key, _ in arrivals] == sorted([*names, "large.png"]), "each object once, and no part of one"
    items = load_manifest(installation.store, "adire").items
    assert sorted(item.name for item in items) == sorted([*names, "large.png"])
    ingests = installation.runs("ingest-upload")
    assert {run["idempotency_key"] for run in ingests} == {f"upload-{batch}" for _, batch in arrivals}
    assert len(ingests) == len({batch for _, batch in arrivals})
    decisions = [json.loads(installation.store.read(key)) for key in installation.store.list("models/adire/decisions/")]
    assert [(one["cause"], one["action"]) for one in decisions if one["cause"] == "data"] == [("data", "retrain")]
    assert f'dyeworks_notifications_total{{outcome="new",sender="seaweedfs"}} {SMALL + 1}.0' in installation.metrics()


def test_what_dyeworks_writes_itself_is_ignored(installation: Installation) -> None:
    lines = [line for line in installation.metrics().splitlines() if 'outcome="ignored",sender="seaweedfs"' in line]
    assert float(lines[0].rpartition(" ")[2]) > 0, "the store's own objects were notified about"
    assert {key.rpartition(".")[2] for key, _ in installation.arrivals()} == {"png"}
