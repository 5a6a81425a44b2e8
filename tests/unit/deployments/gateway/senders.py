"""Notifications in the forms of their senders, posted to the gateway."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from httpx2 import Response

from deployments.gateway.app import create_app
from tasks.core.config.installation import ROOT, Settings
from tasks.core.registry.models import apply_config
from tasks.core.store import open_store
from tests.adire import adire

TOKEN = "a-long-token"
TOPIC = "arn:aws:sns:eu-west-1:111122223333:uploads"
PAYLOADS = ROOT / "tests" / "payloads"
Body = dict[str, Any]


def opened() -> TestClient:
    """A client of the gateway with the settings of the environment."""
    return TestClient(create_app(Settings()), base_url="http://127.0.0.1", raise_server_exceptions=False)


def subscribe() -> None:
    """Have a model subscribe to the datasets of the tests."""
    apply_config(open_store(Settings().store), adire(datasets=["adire", "cloth", "batik"]))


def payload(name: str) -> Body:
    """The document of a file in tests/payloads."""
    document: Body = json.loads((PAYLOADS / f"{name}.json").read_text("utf-8"))
    return document


def notification(*keys: str, bucket: str = "cloths") -> Body:
    return {"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": k, "eTag": f"e-{k}"}}} for k in keys]}


def send(client: TestClient, body: object, token: str = TOKEN) -> Response:
    return client.post("/hooks/s3", json=body, headers={"Authorization": f"Bearer {token}"})


def post(client: TestClient, body: object) -> tuple[int, Body]:
    answer = send(client, body)
    response: Body = answer.json()
    return answer.status_code, response


def arrived() -> list[tuple[str, str]]:
    """Dataset and key of all objects in the outbox."""
    path = Path(Settings().outbox_url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as database:
        tables = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'dyeworks_arrivals'").fetchall()
        return sorted(database.execute("SELECT dataset, key FROM dyeworks_arrivals")) if tables else []


def counted(client: TestClient, name: str, **labels: str) -> float:
    """The value of a metric; 0 if it was never counted."""
    pairs = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    line = f"{name}{{{pairs}}} "
    found = [one for one in client.get("/metrics").text.splitlines() if one.startswith(line)]
    return float(found[0].removeprefix(line)) if found else 0.0


def record(key: str = "uploads/cloth/a.png", **changed: Any) -> Body:
    """A record as AWS sends it."""
    item = {"key": key, "size": 7, "eTag": "e1", "sequencer": "01"} | changed.pop("item", {})
    fields = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-11-27T01:02:03.000Z"}
    return fields | {"s3": {"bucket": {"name": "cloths"}, "object": item}} | changed


def eventbridge(key: str = "uploads/cloth/a.png", kind: str = "Object Created") -> Body:
    """An event as EventBridge sends it."""
    item = {"key": key, "size": 7, "etag": "e1", "version-id": "v1", "sequencer": "01"}
    detail = {"version": "0", "bucket": {"name": "cloths"}, "object": item, "reason": "PutObject"}
    return {"version": "0", "source": "aws.s3", "detail-type": kind, "time": "2026-11-27T01:02:03Z", "detail": detail}


def seaweedfs(kind: str = "create", path: str = "/buckets/cloths/uploads/cloth/a.png", **entry: Any) -> Body:
    """An event as SeaweedFS' filer sends it."""
    return {"key": path, "event_type": kind, "message": {"new_entry": {"name": "a.png"} | entry}}
