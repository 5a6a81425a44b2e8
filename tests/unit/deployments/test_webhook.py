"""The webhook through its own HTTP interface, with a real events server behind it."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deployments.webhook.app import MOST_BYTES, create_app
from deployments.webhook.notifications import StoreLocation
from tasks.core.config.installation import Settings
from tasks.core.errors import ObjectMissing
from tasks.core.events import Uploaded, upload_event
from tasks.core.outbox import queue
from tasks.core.store import FolderStore
from tests.events_server import EventsServer
from tests.s3_server import s3_server

TOKEN = "a-long-token"
Body = dict[str, Any]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    with opened() as running:
        yield running


def opened() -> TestClient:
    """A client of the webhook with the settings of the environment."""
    return TestClient(create_app(Settings()), base_url="http://127.0.0.1", raise_server_exceptions=False)


def notification(*keys: str, bucket: str = "cloths") -> Body:
    return {"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": k, "eTag": f"e-{k}"}}} for k in keys]}


def post(client: TestClient, body: Body, token: str = TOKEN) -> tuple[int, Body]:
    answer = client.post("/notifications/s3", json=body, headers={"Authorization": f"Bearer {token}"})
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
    """The datasets of all events that were ever queued."""
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


def test_health(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}])
def test_requests_without_the_token_are_rejected(
    client: TestClient, events: EventsServer, headers: dict[str, str]
) -> None:
    answer = client.post("/notifications/s3", json=notification("uploads/cloth/a.png"), headers=headers)
    assert answer.status_code == 401
    assert events.events == []


@pytest.mark.parametrize("header", ["Bearer ", "Bearer", ""])
def test_empty_token_setting_rejects_all_requests(header: str) -> None:
    headers = {"Authorization": header}
    answer = opened().post("/notifications/s3", json=notification("uploads/cloth/a.png"), headers=headers)
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
    assert post(client, notification("uploads/cloth/a.png", "uploads/cloth/b.png"))[1] == {"new": 1, "records": 2}
    assert datasets(events, 2) == ["cloth", "cloth"]


def test_new_version_of_an_object_is_new(client: TestClient, events: EventsServer) -> None:
    body = notification("uploads/cloth/a.png")
    post(client, body)
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


@pytest.mark.parametrize(
    "body",
    [
        {"Records": [record()]},
        {"EventName": "s3:ObjectCreated:Put", "Key": "k", "Records": [record(eventName="s3:ObjectCreated:Put")]},
        {"Records": [record(eventName="ObjectCreated:CompleteMultipartUpload", eventSource="ceph:s3")]},
        {"Records": [record(eventName="ObjectCreated:Copy", item={"versionId": None})]},
        {"Records": [record(item={"eTag": None, "sequencer": None})]},
        {"Records": [record(eventTime=None, item={"eTag": 7, "sequencer": [], "size": None})]},
        sns({"Records": [record()]}),
        sns(eventbridge()),
        eventbridge(),
        seaweedfs(),
        seaweedfs("update"),
        seaweedfs("rename", "/buckets/cloths/uploads/other/x.png")
        | {"message": {"new_parent_path": "/buckets/cloths/uploads/cloth", "new_entry": {"name": "a.png"}}},
    ],
)
def test_all_upload_formats_are_parsed(client: TestClient, folder: FolderStore, body: Body) -> None:
    assert post(client, body) == (202, {"new": 1, "records": 1})
    assert queued(folder) == ["cloth"]


@pytest.mark.parametrize(
    "body",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "cloths"},
        sns({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "cloths"}),
        *(
            {"Records": [record(eventName=name)]}
            for name in (
                "ObjectRemoved:Delete",
                "s3:ObjectRemoved:DeleteMarkerCreated",
                "ObjectTagging:Put",
                "ObjectRestore:Completed",
                "LifecycleExpiration:Delete",
                "LifecycleTransition",
                "ObjectAcl:Put",
                "s3:ObjectAccessed:Get",
                "Replication:OperationMissedThreshold",
            )
        ),
        *(eventbridge(kind=kind) for kind in ("Object Deleted", "Object Tags Added", "Object Restore Completed")),
        seaweedfs("delete"),
        seaweedfs(is_directory=True),
        seaweedfs(path="/etc/uploads/cloth/a.png"),
    ],
)
def test_other_events_are_ignored(client: TestClient, folder: FolderStore, body: Body) -> None:
    status, response = post(client, body)
    assert (status, response["new"], len(response["ignored"])) == (200, 0, 1)
    assert list(folder.list("")) == []


def test_subscription_confirmation_is_logged_and_not_fetched(
    client: TestClient, events: EventsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    body = {"Type": "SubscriptionConfirmation", "Token": "secret", "SubscribeURL": f"{events.address}/?Token=secret"}
    assert post(client, body)[0] == 200
    assert "SubscriptionConfirmation of 127.0.0.1" in caplog.text
    assert "secret" not in caplog.text
    assert events.paths == []


def test_valid_records_are_processed_and_invalid_ones_listed(client: TestClient, folder: FolderStore) -> None:
    good, gone = record(), record(eventName="ObjectRemoved:Delete")
    body = {
        "Records": [{}, good, None, gone, record(s3={"bucket": None}), record(item={"key": "%ff"}), record("k" * 1025)]
    }
    status, response = post(client, body)
    assert (status, response["new"], response["records"]) == (202, 1, 7)
    assert [words.partition(":")[0] for words in response["bad"]] == [f"record {n}" for n in (0, 2, 4, 5, 6)]
    assert response["ignored"] == ["record 3: ObjectRemoved:Delete"]
    assert queued(folder) == ["cloth"]
    assert post(client, {"Records": [{}] * 50})[1]["bad"][-1] == "and 30 more"


def test_replaced_file_is_a_new_upload(client: TestClient) -> None:
    bare = notification("uploads/cloth/a.png")
    del bare["Records"][0]["s3"]["object"]["eTag"]
    assert [post(client, bare)[1]["new"] for _ in range(2)] == [1, 1], "without a version mark each notification counts"
    timed = [{"Records": [record(eventTime=time, item={"eTag": "e", "sequencer": None})]} for time in "112"]
    assert [post(client, body)[1]["new"] for body in timed] == [1, 0, 1]
    unversioned = [{"Records": [record(eventTime=None, item={"eTag": tag, "versionId": "null"})]} for tag in "aab"]
    assert [post(client, body)[1]["new"] for body in unversioned] == [1, 0, 1]


@pytest.mark.parametrize(
    ("key", "source", "dataset"),
    [
        ("uploads/a%2Bb+c/x.png", "aws:s3", "a+b c"),
        ("uploads/a%2Bb+c/x.png", "minio:s3", "a+b c"),
        ("uploads/a%2Bb+c/x.png", "ceph:s3", "a%2Bb+c"),
        ("uploads/a b+c/x.png", "other", "a b+c"),
        ("uploads/藍+1/x.png", "other", "藍+1"),
        ("uploads/100%/x.png", "other", "100%"),
    ],
)
def test_keys_are_decoded_only_if_they_are_encoded(
    client: TestClient, folder: FolderStore, key: str, source: str, dataset: str
) -> None:
    assert post(client, {"Records": [record(key, eventSource=source)]})[1]["new"] == 1
    assert queued(folder) == [dataset]


def test_eventbridge_keys_are_not_decoded(client: TestClient, folder: FolderStore) -> None:
    assert post(client, eventbridge("uploads/a%2Bb+c/x.png"))[1]["new"] == 1
    assert queued(folder) == ["a%2Bb+c"]


@pytest.mark.parametrize(
    ("url", "key", "dataset"),
    [
        ("s3://b/uploads/dyeworks", "uploads/dyeworks/uploads/cloth/a.png", "cloth"),
        ("s3://b/uploads/dyeworks", "uploads/cloth/a.png", ""),
        ("s3://b/uploads/dyeworks", "uploads/dyeworks/a.png", ""),
        ("s3://b/uploads/dyeworks", "uploads/dyeworks2/uploads/cloth/a.png", ""),
        ("s3://b/x/", "x/uploads/cloth/sub/a.png", "cloth"),
        ("s3://b", "uploads/cloth/uploads/a.png", "cloth"),
        ("s3://b", "x/uploads/cloth/a.png", ""),
        ("s3://b", "uploads/cloth/", ""),
        ("s3://b", "uploads//a.png", ""),
        ("s3://b", "uploads/../a.png", ""),
        ("s3://b", "uploads/a\0b/a.png", ""),
        ("/data/store", "some/where/uploads/cloth/a.png", "cloth"),
        ("file:///data/store", "uploads/cloth/a.png", "cloth"),
    ],
)
def test_dataset_is_parsed_relative_to_the_store_location(url: str, key: str, dataset: str) -> None:
    assert StoreLocation.of(url).dataset(key) == dataset


def test_other_bucket_is_ignored_with_a_reason(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as bucket:
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
        return client.post("/notifications/s3", json={"Records": [record()]}, headers=headers).status_code

    assert [status(f"sns:{TOKEN}"), status(f":{TOKEN}"), status(f"{TOKEN}:"), status("sns:other")] == [
        202,
        202,
        401,
        401,
    ]
    for value in ("Basic", "Basic ?", "Basic \xe9", f"Basic {TOKEN}", "Digest x", "bearer", "Bearer  "):
        headers = {b"Authorization": value.encode("latin-1")}
        assert client.post("/notifications/s3", json={}, headers=headers).status_code == 401


async def _call(headers: dict[str, str], chunks: list[bytes]) -> tuple[int, int]:
    """The status of a response, and the number of chunks of the body that were read."""
    waiting, sent = list(chunks), list[Any]()

    async def receive() -> Body:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/notifications/s3", "headers": raw, "query_string": b""}
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
    assert client.post("/notifications/s3", content=exact, headers=headers).status_code == 200
    assert client.post("/notifications/s3", content=exact + b" ", headers=headers).status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe{",
        b"{",
        b"null",
        b"NaN",
        b'{"Records": [NaN]}',
        b'{"Records": "\\ud800"}',
        b"[" * 100_000,
        b'{"Records": [' + b"9" * 100_000 + b"]}",
        b'{"Type": "Notification", "Message": "rings"}',
        b'{"Type": "Notification", "Message": 7}',
        json.dumps(sns(sns(sns({"Records": []})))).encode(),
    ],
)
def test_invalid_json_and_other_documents_are_rejected(client: TestClient, body: bytes) -> None:
    answer = client.post("/notifications/s3", content=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 422
    assert "not a notification" in answer.json()["error"]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
KEYS = st.sampled_from(
    [
        "Records",
        "s3",
        "bucket",
        "object",
        "name",
        "key",
        "eTag",
        "versionId",
        "sequencer",
        "eventName",
        "eventSource",
        "eventTime",
        "Type",
        "Message",
        "Event",
        "detail",
        "detail-type",
        "event_type",
        "message",
        "new_entry",
        "new_parent_path",
        "SubscribeURL",
    ]
)
WORDS = st.sampled_from(["Notification", "SubscriptionConfirmation", "ObjectCreated:Put", "Object Created", "create"])
NAMES = st.sampled_from(
    ["uploads/cloth/a.png", "/buckets/b/uploads/c/d", "uploads/%ff/x", "uploads/%00/x", "http://[", "{}"]
)
JSON = st.recursive(
    LEAVES | WORDS | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)
RECORDS = st.fixed_dictionaries(
    {
        "s3": st.fixed_dictionaries(
            {"bucket": st.fixed_dictionaries({"name": JSON}), "object": st.dictionaries(KEYS, JSON)}
        )
    }
)


@given(body=JSON | st.fixed_dictionaries({"Records": st.lists(JSON | RECORDS, max_size=4)}) | st.binary(max_size=60))
@hypothesis_settings(
    derandomize=True, deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_body_causes_an_error_500(client: TestClient, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/notifications/s3", content=content, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code in {200, 202, 422}
    assert answer.json()
