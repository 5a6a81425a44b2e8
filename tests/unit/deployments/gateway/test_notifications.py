"""Which uploads the webhook reads from a notification, through its own HTTP interface."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deployments.gateway.notifications import StoreLocation
from tasks.core.store import FolderStore
from tests.events_server import EventsServer
from tests.unit.deployments.gateway.senders import (
    TOKEN,
    Body,
    eventbridge,
    notification,
    post,
    queued,
    record,
    seaweedfs,
    sns,
)


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
    assert set(folder.list("")) <= {"installation.json"}


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
    answer = client.post("/hooks/s3", content=body, headers={"Authorization": f"Bearer {TOKEN}"})
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
    answer = client.post("/hooks/s3", content=content, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code in {200, 202, 422}
    assert answer.json()
