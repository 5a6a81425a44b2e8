"""Notifications in the forms of their senders, posted to the webhook."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastapi.testclient import TestClient

from deployments.gateway.app import create_app
from deployments.gateway.inbox import PENDING
from tasks.core.config.installation import Settings
from tasks.core.errors import ObjectMissing
from tasks.core.store import FolderStore
from tests.events_server import EventsServer

TOKEN = "a-long-token"
Body = dict[str, Any]


def opened() -> TestClient:
    """A client of the webhook with the settings of the environment."""
    return TestClient(create_app(Settings()), base_url="http://127.0.0.1", raise_server_exceptions=False)


def notification(*keys: str, bucket: str = "cloths") -> Body:
    return {"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": k, "eTag": f"e-{k}"}}} for k in keys]}


def post(client: TestClient, body: Body, token: str = TOKEN) -> tuple[int, Body]:
    answer = client.post("/hooks/s3", json=body, headers={"Authorization": f"Bearer {token}"})
    response: Body = answer.json()
    return answer.status_code, response


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


def datasets(events: EventsServer, count: int) -> list[str]:
    """The datasets of `count` events, which are sent after the response."""
    wait_for(lambda: len(events.events) >= count, f"{count} events")
    assert {e["event"] for e in events.events} <= {"dyeworks.data.uploaded"}
    return sorted(e["payload"]["dataset"] for e in events.events)


def queued(folder: FolderStore) -> list[str]:
    """The datasets of all events that were ever queued, once no notification is pending."""
    wait_for(lambda: not list(folder.list(PENDING)), "the end of all bursts")
    found = {}
    for key in [*folder.list("outbox/"), *folder.list("events/")]:
        with suppress(ObjectMissing):  # it is being sent
            document = json.loads(folder.read(key))
            event = document if isinstance(document["event"], str) else document["event"]
            found[event["id"]] = event["payload"]["dataset"]
    return sorted(found.values())


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


def sns(document: Body) -> Body:
    """A notification sns by SNS."""
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": json.dumps(document)}
