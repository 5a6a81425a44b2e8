"""The webhook through its own HTTP interface, with a real events server behind it: access, limits, events."""

import asyncio
import base64
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.gateway.app import MOST_BYTES, create_app
from tasks.core.config.installation import Settings
from tasks.core.events import Uploaded, upload_event
from tasks.core.outbox import queue
from tasks.core.store import FolderStore
from tests.events_server import EventsServer
from tests.unit.deployments.gateway.senders import (
    TOKEN,
    Body,
    datasets,
    notification,
    opened,
    post,
    queued,
    record,
    wait_for,
)


def test_health(client: TestClient) -> None:
    assert client.get("/livez").json() == {"status": "ok"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}])
def test_requests_without_the_token_are_rejected(
    client: TestClient, events: EventsServer, headers: dict[str, str]
) -> None:
    answer = client.post("/hooks/s3", json=notification("uploads/cloth/a.png"), headers=headers)
    assert answer.status_code == 401
    assert events.events == []


@pytest.mark.parametrize("header", ["Bearer ", "Bearer", ""])
def test_empty_token_setting_rejects_all_requests(header: str) -> None:
    headers = {"Authorization": header}
    answer = opened().post("/hooks/s3", json=notification("uploads/cloth/a.png"), headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "body", [{}, {"Records": [{}]}, {"Records": "none"}, {"Records": [{"s3": {"bucket": {"name": "b"}}}]}]
)
def test_body_without_records_is_rejected(client: TestClient, events: EventsServer, body: Body) -> None:
    assert post(client, body)[0] == 422
    assert events.events == []


def test_upload_emits_an_event_of_its_dataset(client: TestClient, events: EventsServer, folder: FolderStore) -> None:
    assert post(client, notification("uploads/cloth/a.png")) == (202, {"new": 1, "records": 1})
    assert datasets(events, 1) == ["cloth"]
    (event,) = events.events
    assert event["resource"]["prefect.resource.id"] == "dyeworks.dataset.cloth"
    wait_for(lambda: list(folder.list("outbox/")) == [], "an empty outbox")


def test_many_records_emit_one_event_per_dataset(client: TestClient, events: EventsServer) -> None:
    body = notification("uploads/cloth/a.png", "uploads/cloth/b.png", "prefix/uploads/batik/c.png")
    assert post(client, body) == (202, {"new": 3, "records": 3})
    assert datasets(events, 2) == ["batik", "cloth"]


def test_duplicate_notification_emits_one_event(client: TestClient, folder: FolderStore) -> None:
    body = notification("uploads/cloth/a.png")
    assert post(client, body)[1]["new"] == 1
    assert post(client, body) == (202, {"new": 0, "records": 1})
    assert queued(folder) == ["cloth"]


def test_overlapping_notification_counts_only_new_uploads(client: TestClient, events: EventsServer) -> None:
    post(client, notification("uploads/cloth/a.png"))
    assert datasets(events, 1) == ["cloth"]
    assert post(client, notification("uploads/cloth/a.png", "uploads/cloth/b.png"))[1] == {"new": 1, "records": 2}
    assert datasets(events, 2) == ["cloth", "cloth"]


def test_new_version_of_an_object_is_new(client: TestClient, events: EventsServer) -> None:
    body = notification("uploads/cloth/a.png")
    post(client, body)
    datasets(events, 1)
    body["Records"][0]["s3"]["object"]["eTag"] = "changed"
    assert post(client, body)[1]["new"] == 1
    datasets(events, 2)
    assert len({e["id"] for e in events.events}) == 2


@pytest.mark.parametrize("key", ["uploads/my+cloth/a%2Bb.png", "uploads%2Fmy%20cloth%2Fa.png"])
def test_form_encoded_key_is_decoded(client: TestClient, events: EventsServer, key: str) -> None:
    assert post(client, notification(key))[0] == 202
    assert datasets(events, 1) == ["my cloth"]


@pytest.mark.parametrize("key", ["blobs/ab12", "uploads/loose.png", "quarantine/cloth/a.json", "myuploads/cloth/a.png"])
def test_key_outside_of_uploads_is_ignored(client: TestClient, folder: FolderStore, key: str) -> None:
    response = {"new": 0, "records": 1, "ignored": [f"{key}: not under uploads/<dataset>/ of the store"]}
    assert post(client, notification(key)) == (202, response)
    assert queued(folder) == []


def test_event_is_queued_while_prefect_is_down_without_delaying_the_response(
    client: TestClient, events: EventsServer, folder: FolderStore
) -> None:
    events.status = 502
    assert post(client, notification("uploads/cloth/a.png")) == (202, {"new": 1, "records": 1})
    wait_for(lambda: len(events.paths) > 0, "a first try")
    assert len(list(folder.list("outbox/"))) == 1
    events.status = 204
    assert post(client, notification("uploads/batik/a.png"))[0] == 202
    assert datasets(events, 2) == ["batik", "cloth"]
    wait_for(lambda: list(folder.list("outbox/")) == [], "an empty outbox")


def test_events_of_an_earlier_process_are_sent_at_the_start(
    monkeypatch: pytest.MonkeyPatch, events: EventsServer, folder: FolderStore
) -> None:
    queue(folder, upload_event(Uploaded(reason="before", dataset="cloth"), key="k"))
    with TestClient(create_app(Settings())):
        assert datasets(events, 1) == ["cloth"]


def test_unusable_store_is_reported_in_the_response(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYEWORKS_STORE", "ftp://nowhere")
    status, response = post(opened(), notification("uploads/cloth/a.png"))
    assert status == 500
    assert "check DYEWORKS_STORE" in response["error"]


def test_other_bucket_is_ignored_with_a_reason(
    client: TestClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYEWORKS_STORE", f"s3://{bucket}/dye")
    response = post(opened(), {"Records": [record("dye/uploads/cloth/a.png")]})[1]
    assert response == {
        "new": 0,
        "records": 1,
        "ignored": ["dye/uploads/cloth/a.png: bucket cloths is not the store's"],
    }


def test_basic_auth_password_is_accepted_as_token(client: TestClient, folder: FolderStore) -> None:
    def status(shown: str) -> int:
        headers = {"Authorization": f"Basic {base64.b64encode(shown.encode()).decode()}"}
        return client.post("/hooks/s3", json={"Records": [record()]}, headers=headers).status_code

    assert [status(f"sns:{TOKEN}"), status(f":{TOKEN}"), status(f"{TOKEN}:"), status("sns:other")] == [
        202,
        202,
        401,
        401,
    ]
    for value in ("Basic", "Basic ?", "Basic \xe9", f"Basic {TOKEN}", "Digest x", "bearer", "Bearer  "):
        headers = {b"Authorization": value.encode("latin-1")}
        assert client.post("/hooks/s3", json={}, headers=headers).status_code == 401


async def _call(headers: dict[str, str], chunks: list[bytes]) -> tuple[int, int]:
    """The status of a response, and the number of chunks of the body that were read."""
    waiting, sent = list(chunks), list[Any]()

    async def receive() -> Body:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/hooks/s3", "headers": raw, "query_string": b""}
    await create_app(Settings())(
        scope | {"server": ("127.0.0.1", 80), "root_path": "", "scheme": "http"}, receive, send
    )
    return sent[0]["status"], len(chunks) - len(waiting)


def test_body_is_not_read_without_the_token(client: TestClient) -> None:
    assert asyncio.run(_call({"Authorization": "Bearer other"}, [b"{}"] * 3)) == (401, 0)


def test_oversized_body_is_not_read_to_the_end(client: TestClient) -> None:
    chunk = b" " * (MOST_BYTES // 4)
    assert asyncio.run(_call({"Authorization": f"Bearer {TOKEN}"}, [chunk] * 100)) == (413, 5)
    exact = json.dumps({"Event": "s3:TestEvent"}).encode().ljust(MOST_BYTES)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert client.post("/hooks/s3", content=exact, headers=headers).status_code == 200
    assert client.post("/hooks/s3", content=exact + b" ", headers=headers).status_code == 413
