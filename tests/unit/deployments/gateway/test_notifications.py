"""Which uploads the gateway reads from a notification, through its own HTTP interface."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deployments.gateway.notifications import StoreLocation, content_identity
from deployments.gateway.outbox import Arrival
from deployments.gateway.upload_store import check_name
from tests.sns_server import SnsServer
from tests.unit.deployments.gateway.senders import (
    PAYLOADS,
    TOKEN,
    Body,
    arrived,
    counted,
    eventbridge,
    notification,
    opened,
    payload,
    post,
    record,
    seaweedfs,
    send,
)

EXPECTED = {  # of each file that is no message of SNS or of Standard Webhooks: sender, keys, records that are ignored
    "aws_put": ("aws", ["indigo bowl + 藍.png"], 0),
    "aws_multipart_and_delete": ("aws", ["loom/scan.webp"], 1),
    "aws_test": ("aws", [], 1),
    "minio_put": ("minio", ["two words.jpg"], 0),
    "ceph_put": ("ceph", ["100%25 cotton+wax.png"], 0),
    "eventbridge_created": ("eventbridge", ["two words+plus.png"], 0),
    "eventbridge_deleted": ("eventbridge", [], 1),
    "seaweedfs_create": ("seaweedfs", ["a b+ü.png"], 0),
    "seaweedfs_directory": ("seaweedfs", [], 1),
    "seaweedfs_part": ("seaweedfs", [], 1),
    "seaweedfs_rename": ("seaweedfs", ["final.png"], 0),
}


def test_all_files_of_payloads_are_read() -> None:
    others = {"sns_notification", "sns_subscription", "standard_created"}  # see test_sns.py and test_standard.py
    assert {path.stem for path in PAYLOADS.iterdir()} == {*EXPECTED, *others}


@pytest.mark.parametrize("name", EXPECTED)
def test_payload_of_each_sender_is_read_once(client: TestClient, name: str) -> None:
    sender, keys, ignored = EXPECTED[name]
    status, response = post(client, payload(name))
    assert (status, response["new"], len(response["ignored"])) == (202 if keys else 200, len(keys), ignored)
    assert arrived() == [("adire", key) for key in keys]
    assert post(client, payload(name))[1]["new"] == 0
    counts = [counted(client, "dyeworks_notifications_total", sender=sender, outcome=o) for o in ("new", "repeated")]
    assert counts == [len(keys), len(keys)]
    assert counted(client, "dyeworks_notifications_total", sender=sender, outcome="ignored") == 2 * ignored


@pytest.mark.parametrize(
    "body",
    [
        {"Records": [record(eventVersion="2.99", eventName="s3:ObjectCreated:Post")]},
        {"Records": [record(eventName="ObjectSynced:Create", eventSource="ceph:s3")]},
        {"Records": [record(eventName="ObjectCreated:Copy", item={"versionId": None})]},
        {"Records": [record(item={"eTag": None, "sequencer": None})]},
        {"Records": [record(eventTime=None, item={"eTag": 7, "sequencer": [], "size": None})]},
        seaweedfs("update"),
        seaweedfs(attributes={"md5": "?", "mtime": "7", "file_size": 3}, extended={"Seaweed-X-Amz-ETag": 3}),
        seaweedfs(attributes=[], extended=[]),
    ],
)
def test_odd_forms_are_parsed(client: TestClient, body: Body) -> None:
    assert post(client, body)[0] == 202
    assert arrived() == [("cloth", "a.png")]


@pytest.mark.parametrize(
    "body",
    [
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
        *(eventbridge(kind=kind) for kind in ("Object Tags Added", "Object Restore Completed")),
        *({"Records": [record(key)]} for key in ("uploads/cloth/", "uploads/loose.png", "blobs/ab12", "k" * 1025)),
        seaweedfs("delete"),
        seaweedfs(is_directory=True),
        seaweedfs(path="/etc/uploads/cloth/a.png"),
    ],
)
def test_other_events_are_ignored(client: TestClient, body: Body) -> None:
    status, response = post(client, body)
    assert (status, response["new"], len(response["ignored"])) == (200, 0, 1)
    assert arrived() == []


@pytest.mark.parametrize(
    "key",
    [
        *("uploads/../cloth/a.png", "uploads/cloth/../../etc/passwd", "uploads/cloth/./a", "uploads/cloth//a.png"),
        *("uploads/cloth/%00.png", "uploads/cloth/%5c..%5ca", "uploads/cloth/a%0Ab", "uploads/cloth/a%C2%85b"),
        *("%ff", "uploads/cloth/" + "k" * 1025, "uploads/..%2f..%2fa/b"),
    ],
)
def test_keys_that_no_store_can_hold_are_refused_and_counted(client: TestClient, key: str) -> None:
    answer = send(client, {"Records": [record(key)]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_a_notification")
    assert len(answer.text) < 1000
    assert counted(client, "dyeworks_requests_refused_total", reason="not_a_notification") == 1
    assert counted(client, "dyeworks_notifications_total", sender="aws", outcome="bad") == 1
    assert arrived() == []


@pytest.mark.parametrize(
    "name", ["a\u202fb.png", "a\u3000b.png", "\U0001f469\u200d\U0001f3a8.png", "a\u202eb.png", "a\u2028b.png"]
)
def test_names_that_an_upload_may_have_are_taken(client: TestClient, name: str) -> None:
    check_name("cloth", name)
    assert post(client, {"Records": [record(f"uploads/cloth/{name}", eventSource="ceph:s3")]})[1]["new"] == 1
    assert arrived() == [("cloth", name)]


def test_what_does_not_print_is_escaped_in_answers(client: TestClient) -> None:
    ignored = post(client, {"Records": [record("lo\u202eose.png", eventSource="ceph:s3")]})[1]["ignored"]
    assert ignored == [r"'lo\u202eose.png': not under uploads/<dataset>/ of the store"]


def test_valid_records_are_processed_and_invalid_ones_listed(client: TestClient) -> None:
    good, gone = record(), record(eventName="ObjectRemoved:Delete")
    body = {"Records": [{}, good, None, gone, record(s3={"bucket": None}), record(item={"key": "%ff"})]}
    status, response = post(client, body)
    assert (status, response["new"], response["records"]) == (202, 1, 6)
    assert [words.partition(":")[0] for words in response["bad"]] == [f"record {n}" for n in (0, 2, 4, 5)]
    assert response["ignored"] == ["record 3: ObjectRemoved:Delete"]
    assert post(client, {"Records": [good, *[{}] * 50]})[1]["bad"][-1] == "and 30 more"


def test_a_write_is_told_from_others_by_what_its_sender_gives(client: TestClient) -> None:
    def new(*records: Body) -> list[int]:
        return [post(client, {"Records": [one]})[1]["new"] for one in records]

    bare = notification("uploads/cloth/bare.png")["Records"][0]
    del bare["s3"]["object"]["eTag"]
    assert new(bare, bare) == [1, 1], "without any mark each notification counts"
    by_time = [record("uploads/cloth/t", eventTime=t, item={"eTag": None, "sequencer": None}) for t in "112"]
    assert new(*by_time) == [1, 0, 1]
    by_size = [record("uploads/cloth/s", item={"eTag": None, "sequencer": None, "size": n}) for n in (1, 1, 2)]
    assert new(*by_size) == [1, 0, 1]
    by_tag = [record("uploads/cloth/e", item={"eTag": tag, "versionId": "null"}) for tag in "aab"]
    assert new(*by_tag) == [1, 0, 1]
    again = [
        record("uploads/cloth/q", eventTime=t, item={"sequencer": s}) for t, s in (("1", "a"), ("2", "a"), ("2", "b"))
    ]
    assert new(*again) == [1, 0, 1], "the sequencer decides, not the time"
    versions = [record("uploads/cloth/v", item={"versionId": v}) for v in "aab"]
    assert new(*versions) == [1, 0, 1]


def test_ready_counts_at_each_time_it_is_written(client: TestClient) -> None:
    def entry(key: str, time: int) -> Body:
        path = f"/buckets/cloths/uploads/cloth/{key}"
        return seaweedfs(path=path, attributes={"mtime": time, "md5": "1B2M2Y8AsgTpgAmY7PhCfg=="})

    ready = [{"Records": [record("uploads/cloth/_READY", eventTime=time)]} for time in "112"]
    assert [post(client, body)[1]["new"] for body in ready] == [1, 0, 1]
    assert [post(client, entry("_READY", time))[1]["new"] for time in (1, 1, 2)] == [1, 0, 1]
    assert [post(client, entry("a.png", time))[1]["new"] for time in (1, 1, 2)] == [1, 0, 1]


def test_seaweedfs_event_is_known_again_though_its_chunks_differ(client: TestClient) -> None:
    first, second = payload("seaweedfs_create"), payload("seaweedfs_create")
    second["message"] |= {"signatures": [1, 2], "old_entry": {"name": "a b+ü.png"}}
    second["message"]["new_entry"]["chunks"] = []
    assert [post(client, body)[1]["new"] for body in (first, second)] == [1, 0]
    second["message"]["new_entry"]["attributes"]["mtime"] += 1
    assert post(client, second)[1]["new"] == 1


def test_what_the_gateway_has_written_itself_is_no_new_upload(client: TestClient) -> None:
    bodies = ["aws_put", "minio_put", "ceph_put", "eventbridge_created", "seaweedfs_create"]
    tags = {
        "indigo bowl + 藍.png": "6f1ed002ab5595859014ebf0951522d9",
        "two words.jpg": "a4b7923f7b2df9bc96fb263978c8bc40",
        "100%25 cotton+wax.png": "37b51d194a7513e45b56f6524f2d51f2",
        "two words+plus.png": "b1946ac92492d2347c6235b4d2611184",
        "a b+ü.png": "6d56641672cefc6718ab9579dbb4398f",
    }
    contents = {key: content_identity("adire", key, f'"{tag}"') for key, tag in tags.items()}
    own = [Arrival("adire", key, content, content) for key, content in contents.items()]
    assert client.portal
    assert client.portal.call(client.app.state.gateway.outbox.add, own) == [True] * 5  # type: ignore[attr-defined]
    assert [post(client, payload(name))[1]["new"] for name in bodies] == [0] * 5


@pytest.mark.parametrize(
    ("key", "source", "dataset"),
    [
        ("uploads/a%2Bb+c/x.png", "aws:s3", "a+b c"),
        ("uploads%2Fmy%20cloth%2Fa.png", "minio:s3", "my cloth"),
        ("uploads/a%2Bb+c/x.png", "ceph:s3", "a%2Bb+c"),
        ("uploads/a b+c/x.png", "other", "a b+c"),
        ("uploads/藍+1/x.png", "other", "藍+1"),
        ("uploads/100%/x.png", "other", "100%"),
    ],
)
def test_keys_are_decoded_only_if_they_are_encoded(
    monkeypatch: pytest.MonkeyPatch, key: str, source: str, dataset: str
) -> None:
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    client = opened()  # the store is never read
    assert post(client, {"Records": [record(key, eventSource=source)]})[1]["new"] == 1
    assert [name for name, _ in arrived()] == [dataset]


@pytest.mark.parametrize(
    ("url", "key", "upload"),
    [
        ("s3://b/uploads/dyeworks", "uploads/dyeworks/uploads/cloth/a.png", ("cloth", "a.png")),
        ("s3://b/uploads/dyeworks", "uploads/cloth/a.png", ("", "")),
        ("s3://b/uploads/dyeworks", "uploads/dyeworks/a.png", ("", "")),
        ("s3://b/uploads/dyeworks", "uploads/dyeworks2/uploads/cloth/a.png", ("", "")),
        ("s3://b/x/", "x/uploads/cloth/sub/a.png", ("cloth", "sub/a.png")),
        ("s3://b", "uploads/cloth/uploads/a.png", ("cloth", "uploads/a.png")),
        ("s3://b", "x/uploads/cloth/a.png", ("", "")),
        ("s3://b", "uploads/cloth/", ("", "")),
        ("/data/store", "some/where/uploads/cloth/a.png", ("cloth", "a.png")),
        ("file:///data/store", "uploads/cloth/a.png", ("cloth", "a.png")),
    ],
)
def test_upload_is_parsed_relative_to_the_store_location(url: str, key: str, upload: tuple[str, str]) -> None:
    assert StoreLocation.of(url).upload(key) == upload


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xff\xfe{", b"{", b"null", b"NaN", b'{"Records": [NaN]}', b'{"Records": "\\ud800"}', b"{}"),
        *(b"[" * 100_000, b'{"Records": [' + b"9" * 100_000 + b"]}", b'{"Records": "none"}', b'{"Records": [{}]}'),
        json.dumps({"Records": [{}] * 10_001}).encode(),
    ],
)
def test_other_documents_are_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/hooks/s3", content=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 422
    assert "not a notification" in answer.json()["detail"]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NAMES = [
    *("Records", "s3", "bucket", "object", "name", "key", "eTag", "versionId", "sequencer", "eventName", "eventSource"),
    *("eventTime", "Type", "Message", "TopicArn", "Event", "detail", "detail-type", "event_type", "message"),
    *("new_entry", "new_parent_path", "attributes", "extended", "md5", "mtime", "SubscribeURL", "SigningCertURL"),
]
WORDS = [
    *("Notification", "SubscriptionConfirmation", "ObjectCreated:Put", "Object Created", "create", "uploads/c/a.png"),
    *("/buckets/b/uploads/c/d", "uploads/%ff/x", "uploads/%00/x", "http://[", "{}"),
]
JSON = st.recursive(
    LEAVES | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=25,
)
RECORDS = st.fixed_dictionaries(
    {
        "s3": st.fixed_dictionaries(
            {
                "bucket": st.fixed_dictionaries({"name": JSON}),
                "object": st.dictionaries(st.sampled_from(NAMES), JSON),
            }
        )
    }
)


@given(body=JSON | st.fixed_dictionaries({"Records": st.lists(JSON | RECORDS, max_size=4)}) | st.binary(max_size=60))
@hypothesis_settings(
    derandomize=True, deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_body_causes_an_error_500(client: TestClient, sns: SnsServer, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/hooks/s3", content=content, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code in {200, 202, 403, 422}
    assert answer.json()
    assert sns.asked == []
