"""The webhook through its own HTTP interface, with a real events server behind it."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.webhook.app import app
from tasks.core.settings import get_settings
from tasks.core.store import FolderStore
from tests.events_server import EventsServer

TOKEN = "a-long-token"
Body = dict[str, Any]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    get_settings.cache_clear()
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


def notification(*keys: str, bucket: str = "cloths") -> Body:
    return {"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": k, "eTag": f"e-{k}"}}} for k in keys]}


def post(client: TestClient, body: Body, token: str = TOKEN) -> tuple[int, Body]:
    answer = client.post("/notifications/s3", json=body, headers={"Authorization": f"Bearer {token}"})
    told: Body = answer.json()
    return answer.status_code, told


def datasets(events: EventsServer) -> list[str]:
    assert {e["event"] for e in events.events} <= {"dyeworks.data.uploaded"}
    return [e["payload"]["dataset"] for e in events.events]


def test_it_says_that_it_runs(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}])
def test_without_the_token_nothing_is_taken(client: TestClient, events: EventsServer, headers: dict[str, str]) -> None:
    answer = client.post("/notifications/s3", json=notification("uploads/cloth/a.png"), headers=headers)
    assert answer.status_code == 401
    assert events.events == []


@pytest.mark.parametrize("header", ["Bearer ", "Bearer", ""])
def test_an_empty_token_refuses_all(monkeypatch: pytest.MonkeyPatch, client: TestClient, header: str) -> None:
    monkeypatch.delenv("DYEWORKS_WEBHOOK_TOKEN")
    get_settings.cache_clear()
    headers = {"Authorization": header}
    answer = client.post("/notifications/s3", json=notification("uploads/cloth/a.png"), headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "body", [{}, {"Records": [{}]}, {"Records": "none"}, {"Records": [{"s3": {"bucket": {"name": "b"}}}]}]
)
def test_a_body_that_is_no_notification_is_refused(client: TestClient, events: EventsServer, body: Body) -> None:
    assert post(client, body)[0] == 422
    assert events.events == []


def test_an_upload_emits_its_dataset(client: TestClient, events: EventsServer, folder: FolderStore) -> None:
    assert post(client, notification("uploads/cloth/a.png")) == (202, {"new": 1, "records": 1})
    (event,) = events.events
    assert event["event"] == "dyeworks.data.uploaded"
    assert event["payload"]["dataset"] == "cloth"
    assert event["resource"]["prefect.resource.id"] == "dyeworks.model.adire"
    assert list(folder.list("outbox/")) == []


def test_many_records_emit_one_event_a_dataset(client: TestClient, events: EventsServer) -> None:
    body = notification("uploads/cloth/a.png", "uploads/cloth/b.png", "prefix/uploads/batik/c.png")
    assert post(client, body) == (202, {"new": 3, "records": 3})
    assert sorted(datasets(events)) == ["batik", "cloth"]


def test_the_same_notification_twice_emits_once(client: TestClient, events: EventsServer) -> None:
    body = notification("uploads/cloth/a.png")
    assert post(client, body)[1]["new"] == 1
    assert post(client, body) == (202, {"new": 0, "records": 1})
    assert len(events.events) == 1


def test_only_what_is_new_counts_in_an_overlapping_notification(client: TestClient, events: EventsServer) -> None:
    post(client, notification("uploads/cloth/a.png"))
    assert post(client, notification("uploads/cloth/a.png", "uploads/cloth/b.png"))[1] == {"new": 1, "records": 2}
    assert len(events.events) == 2


def test_another_version_of_an_object_is_new(client: TestClient, events: EventsServer) -> None:
    body = notification("uploads/cloth/a.png")
    post(client, body)
    body["Records"][0]["s3"]["object"]["eTag"] = "changed"
    assert post(client, body)[1]["new"] == 1
    assert len({e["id"] for e in events.events}) == 2


@pytest.mark.parametrize("key", ["uploads/my+cloth/a%2Bb.png", "uploads%2Fmy%20cloth%2Fa.png"])
def test_a_form_encoded_key_is_decoded(client: TestClient, events: EventsServer, key: str) -> None:
    assert post(client, notification(key))[0] == 202
    assert datasets(events) == ["my cloth"]


@pytest.mark.parametrize("key", ["blobs/ab12", "uploads/loose.png", "quarantine/cloth/a.json", "myuploads/cloth/a.png"])
def test_a_key_outside_the_uploads_is_ignored(client: TestClient, events: EventsServer, key: str) -> None:
    assert post(client, notification(key)) == (202, {"new": 0, "records": 1})
    assert events.events == []


def test_while_prefect_is_down_the_sender_is_asked_to_repeat(
    client: TestClient, events: EventsServer, folder: FolderStore
) -> None:
    events.status = 502
    status, told = post(client, notification("uploads/cloth/a.png"))
    assert status == 503
    assert "stays in the outbox" in told["error"]
    assert len(list(folder.list("outbox/"))) == 1
    events.status = 204
    assert post(client, notification("uploads/cloth/a.png"))[0] == 202
    assert datasets(events) == ["cloth"], "sent once, though it was queued and then repeated"
    assert list(folder.list("outbox/")) == []


def test_a_store_that_cannot_be_used_is_told(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYEWORKS_STORE", "ftp://nowhere")
    get_settings.cache_clear()
    status, told = post(client, notification("uploads/cloth/a.png"))
    assert status == 500
    assert "check DYEWORKS_STORE" in told["error"]
