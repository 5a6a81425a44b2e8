"""The gateway through its own HTTP interface, with a real server of runs behind it: limits, readiness, figures."""

import asyncio
import gzip
import json
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.gateway import hooks
from deployments.gateway.app import create_app
from deployments.gateway.hooks import MOST_BYTES
from tasks.core.access.keys import create_key
from tasks.core.config.installation import Settings
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.events_server import EventsServer
from tests.gateway_process import gateway
from tests.unit.deployments.gateway.senders import (
    TOKEN,
    Body,
    arrived,
    counted,
    notification,
    opened,
    payload,
    post,
    record,
    send,
    subscribe,
)
from tests.waiting import wait_for

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def figure(client: TestClient, name: str) -> float:
    """The value of a metric without labels; -1 if there is none."""
    found = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
    return float(found[0].rpartition(" ")[2]) if found else -1.0


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}])
def test_requests_without_the_token_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/hooks/s3", json=notification("uploads/cloth/a.png"), headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert counted(client, "dyeworks_requests_refused_total", reason="invalid_api_key") == 1
    assert arrived() == []


def test_key_that_was_created_while_the_gateway_runs_may_notify(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe()
    monkeypatch.setenv("DYEWORKS_POLL_SECONDS", "0.01")
    with opened() as client:
        wait_for(lambda: client.get("/readyz").json()["status"] == "ok", "a look at the keys")
        text, _ = create_key(folder, "ingest", "camera")
        wait_for(lambda: send(client, {"Records": [record()]}, token=text).status_code == 202, "a look at the new key")
    assert arrived() == [("cloth", "a.png")]


def test_uploads_start_one_run_for_each_dataset(events: EventsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    subscribe()
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setenv("DYEWORKS_UPLOAD_QUIET_SECONDS", "0.3")
    with opened() as client:
        body = notification("uploads/cloth/a.png", "uploads/cloth/b.png", "prefix/uploads/batik/c.png")
        assert post(client, body) == (202, {"new": 3, "records": 3, "ignored": [], "bad": []})
        wait_for(lambda: len(events.runs) == 2, "two runs")
        assert sorted(events.runs.values()) == ["batik", "cloth"]
        wait_for(lambda: figure(client, "dyeworks_outbox_waiting") == 0, "an empty outbox")
        assert figure(client, "dyeworks_runs_started_total") == 2
        assert post(client, body)[1]["new"] == 0


def test_while_prefect_is_away_uploads_are_taken_and_readyz_says_what_waits(
    events: EventsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe()
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setenv("DYEWORKS_UPLOAD_QUIET_SECONDS", "0.01")
    events.status = 502
    with opened() as client:
        assert post(client, notification("uploads/cloth/a.png"))[0] == 202
        wait_for(lambda: "no ingest can be started" in client.get("/readyz").json()["problems"], "a first try")
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert (answer.json()["objects"], answer.json()["batches"]) == (1, 1)
        assert figure(client, "dyeworks_outbox_waiting") == 1
        assert figure(client, "dyeworks_outbox_oldest_seconds") >= 0


def test_store_that_is_away_is_reported_and_refuses_only_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setenv("DYEWORKS_STORE", "ftp://nowhere")
    with opened() as client:
        assert post(client, notification("uploads/cloth/a.png"))[0] == 202
        assert client.get("/readyz").json()["problems"] == ["the API keys or the models cannot be read from the store"]


def test_uploads_to_a_dataset_to_which_no_model_subscribes_are_ignored(
    monkeypatch: pytest.MonkeyPatch, folder: FolderStore
) -> None:
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setenv("DYEWORKS_POLL_SECONDS", "0.01")
    subscribe()
    body = notification("uploads/cloth/a.png", *(f"uploads/invented-{number}/a.png" for number in range(100)))
    with opened() as client:
        wait_for(lambda: client.get("/readyz").json()["status"] == "ok", "a look at the models")
        status, answer = post(client, body)
        assert (status, answer["new"], answer["records"]) == (202, 1, 101)
        assert answer["ignored"][0] == "invented-0: no model subscribes to the dataset of a.png"
        assert post(client, notification("uploads/lace/a.png"))[0] == 200
        apply_config(folder, adire(name="lace"))
        wait_for(lambda: post(client, notification("uploads/lace/a.png"))[0] == 202, "a look at the new model")
    assert arrived() == [("cloth", "a.png"), ("lace", "a.png")]


def test_uploads_are_taken_while_the_models_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, folder: FolderStore
) -> None:
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setenv("DYEWORKS_POLL_SECONDS", "0.01")
    subscribe()
    with opened() as client:
        wait_for(lambda: client.get("/readyz").json()["status"] == "ok", "a look at the models")
        folder.write("models/adire/config/000002.json", b"{")
        wait_for(lambda: client.get("/readyz").json()["status"] == "degraded", "a second look")
        assert post(client, notification("uploads/lace/a.png"))[0] == 202


def test_outbox_that_cannot_be_opened_is_not_ready_and_asks_for_a_retry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    subscribe()
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DYEWORKS_OUTBOX", f"sqlite:///{tmp_path}/file/outbox.db")
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    with opened() as client:
        answers = [client.get("/readyz"), send(client, {"Records": [record()]})]
        assert [answer.status_code for answer in answers] == [503, 503]
        assert [answer.headers["Retry-After"] for answer in answers] == ["5", "5"]
        assert client.get("/livez").json() == {"status": "ok"}
        assert figure(client, "dyeworks_outbox_waiting") == -1
        assert counted(client, "dyeworks_requests_refused_total", reason="unavailable") == 2


def test_readyz_says_that_nothing_is_stored_until_it_is(client: TestClient) -> None:
    assert post(client, notification("uploads/cloth/a.png"))[0] == 202
    problem, path = "nothing could be stored in the outbox at the last try", Settings().outbox_url
    with closing(sqlite3.connect(path.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON dyeworks_arrivals BEGIN SELECT RAISE(ABORT, 'full'); END")
        assert post(client, notification("uploads/cloth/b.png"))[0] == 503
        assert problem in client.get("/readyz").json()["problems"]
        other.execute("DROP TRIGGER full")
    assert post(client, notification("uploads/cloth/b.png"))[0] == 202
    assert problem not in client.get("/readyz").json()["problems"]


def test_other_bucket_is_ignored_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setenv("DYEWORKS_STORE", "s3://dyeworks/dye")
    client = opened()  # the store is not needed
    response = post(client, {"Records": [record("dye/uploads/cloth/a.png")]})[1]
    assert response["ignored"] == ["dye/uploads/cloth/a.png: bucket cloths is not the store's"]


def test_every_error_is_a_problem_and_counted_by_its_route(client: TestClient) -> None:
    answers = [client.get("/hooks/s3"), client.post("/invented"), client.get("/hooks/s3/../../etc/passwd")]
    assert [answer.status_code for answer in answers] == [405, 404, 404]
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert all(len(answer.headers["x-request-id"]) == 32 for answer in answers)
    assert counted(client, "dyeworks_requests_refused_total", reason="not_found") == 2
    duration = "dyeworks_request_duration_seconds_count"
    assert counted(client, duration, route="other", status="404") == 2
    assert counted(client, duration, route="/hooks/s3", status="405") == 1


@pytest.mark.parametrize("path", ["/hooks/s3/", "/hooks/standard/", "/uploads/"])
def test_a_path_with_a_slash_more_is_not_found(client: TestClient, path: str) -> None:
    assert client.post(path, follow_redirects=False).status_code == 404


def test_metrics_are_refused_to_a_wrong_key(client: TestClient) -> None:
    assert client.get("/metrics", headers=AUTHORIZED).status_code == 401


async def _call(path: str, headers: dict[str, str], chunks: list[bytes], complete: bool = True) -> tuple[int, int]:
    """The status of a response, and the number of chunks of the body that were read."""
    waiting, sent = list(chunks), list[Any]()

    async def receive() -> Body:
        if not waiting:
            await asyncio.Event().wait()  # for ever
        chunk = waiting.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting) or not complete}

    async def respond(message: Any) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": raw, "query_string": b""}
    await create_app(Settings())(
        scope | {"server": ("127.0.0.1", 80), "root_path": "", "scheme": "http"}, receive, respond
    )
    return sent[0]["status"], len(chunks) - len(waiting)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(("path", "headers"), [("/hooks/s3", {"Authorization": "Bearer x"}), ("/hooks/standard", {})])
def test_body_is_not_read_without_credentials(path: str, headers: dict[str, str]) -> None:
    assert asyncio.run(_call(path, headers, [b"{}"] * 3)) == (401, 0)


@pytest.mark.usefixtures("client")
def test_message_is_not_read_where_no_secret_is_configured() -> None:
    headers = {"webhook-id": "a", "webhook-timestamp": str(time.time()), "webhook-signature": "v1,AAAA"}
    assert asyncio.run(_call("/hooks/standard", headers, [b"{}"] * 3)) == (401, 0)


def test_oversized_body_is_not_read_to_the_end(client: TestClient) -> None:
    chunk = b" " * (MOST_BYTES // 4)
    assert asyncio.run(_call("/hooks/s3", AUTHORIZED, [chunk] * 400)) == (413, 5)
    exact = json.dumps({"Event": "s3:TestEvent"}).encode().ljust(MOST_BYTES)
    assert client.post("/hooks/s3", content=exact, headers=AUTHORIZED).status_code == 200
    assert client.post("/hooks/s3", content=exact + b" ", headers=AUTHORIZED).status_code == 413
    assert counted(client, "dyeworks_requests_refused_total", reason="too_large") == 1


def test_compressed_body_is_not_inflated(client: TestClient) -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    headers = AUTHORIZED | {"Content-Encoding": "gzip"}
    assert client.post("/hooks/s3", content=bomb, headers=headers).status_code == 422


@pytest.mark.usefixtures("client")
def test_slow_body_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "BODY_SECONDS", 0.05)
    assert asyncio.run(_call("/hooks/s3", AUTHORIZED, [b"{"], complete=False)) == (408, 1)


def test_client_that_leaves_is_counted_as_such(tmp_path: Path) -> None:
    """A real server: a body of which a part comes, then the connection is closed."""
    with gateway(webhook_token=TOKEN, store=str(tmp_path / "store"), cache=str(tmp_path / "cache")) as running:
        host, _, port = running.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /hooks/s3 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\n"
            connection.sendall(head.encode() + b"{")
        line = 'dyeworks_requests_refused_total{reason="disconnected"} 1.0'
        wait_for(lambda: line in running.client.get("/metrics", headers={"Authorization": ""}).text, "the count")


def test_settings_are_not_shown(client: TestClient) -> None:
    texts = [client.get(path).text for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/hooks/s3")]
    assert not [text for text in texts if TOKEN in text]


def test_payload_of_a_sender_through_a_process_of_its_own(tmp_path: Path) -> None:
    subscribe()
    with gateway(webhook_token=TOKEN, store=str(tmp_path / "store"), cache=str(tmp_path / "cache")) as running:
        assert [running.post(payload("ceph_put")) for _ in range(2)] == [1, 0]
    assert arrived() == [("adire", "100%25 cotton+wax.png")]
