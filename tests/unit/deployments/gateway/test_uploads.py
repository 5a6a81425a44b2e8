"""Uploads through the gateway's own HTTP interface, on a real server: files, listings, archives, access."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from unittest.mock import Mock
from urllib.parse import quote

import httpx
import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, EndpointConnectionError

from deployments.gateway import upload_store
from deployments.gateway.outbox import OutboxUnavailable
from tasks.core.errors import ObjectUnreadable
from tasks.core.store import FolderStore, Listed
from tests.unit.deployments.gateway.running import RunningGateway, running_gateway
from tests.unit.deployments.gateway.zips import damaged, overlapping, zipped


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path) as found:
        yield found


@pytest.fixture
def client(running: RunningGateway) -> Iterator[httpx.Client]:
    with running.client() as found:
        yield found


def digest(data: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"}


def test_a_file_is_stored_and_arrives_before_the_answer(running: RunningGateway, client: httpx.Client) -> None:
    answer = client.put("/uploads/adire/b/ä 1.png", content=b"picture", headers=digest(b"picture"))
    assert answer.status_code == 201
    sha256 = hashlib.sha256(b"picture").hexdigest()
    stored = {"dataset": "adire", "name": "b/ä 1.png", "status": "stored", "size": 7, "sha256": sha256}
    assert answer.json() == stored
    assert running.stored() == {"b/ä 1.png": b"picture"}
    assert running.arrivals() == [("b/ä 1.png", False)]


def test_the_same_file_again_changes_nothing(running: RunningGateway, client: httpx.Client) -> None:
    client.put("/uploads/adire/a.png", content=b"picture")
    before = running.store.stat("uploads/adire/a.png")
    again = client.put("/uploads/adire/a.png", content=b"picture")
    assert (again.status_code, again.json()["status"]) == (200, "unchanged")
    assert running.store.stat("uploads/adire/a.png") == before
    assert running.arrivals() == [("a.png", False)]


def test_other_content_of_the_same_size_arrives_also_where_it_was_there_before(
    running: RunningGateway, client: httpx.Client
) -> None:
    answers = [client.put("/uploads/adire/a.png", content=data) for data in (b"one", b"two", b"one")]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert running.stored() == {"a.png": b"one"}
    assert running.arrivals() == [("a.png", False)] * 3


def test_what_was_stored_but_did_not_arrive_does_so_when_it_is_sent_again(
    running: RunningGateway, client: httpx.Client
) -> None:
    running.store.write("uploads/adire/a.png", b"one")  # as if the gateway was killed then
    assert client.put("/uploads/adire/a.png", content=b"one").status_code == 200
    assert running.arrivals() == [("a.png", False)]


@pytest.fixture
def md5_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's tags are of the content, as those of most object stores."""
    stat = FolderStore.stat

    def tagged(store: FolderStore, key: str) -> Listed:
        return stat(store, key)._replace(tag=hashlib.md5(store.read(key)).hexdigest())

    monkeypatch.setattr(FolderStore, "stat", tagged)


@pytest.mark.usefixtures("md5_tags")
def test_content_that_came_back_but_did_not_arrive_does_so_once_when_it_is_sent_again(
    running: RunningGateway, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data in (b"one", b"two"):
        client.put("/uploads/adire/a.png", content=data)
    with monkeypatch.context() as away:
        away.setattr(running.gateway.outbox, "add", Mock(side_effect=OutboxUnavailable("cannot store it")))
        assert client.put("/uploads/adire/a.png", content=b"one").status_code == 503
    assert running.arrivals() == [("a.png", False)] * 2
    for _ in range(3):
        assert client.put("/uploads/adire/a.png", content=b"one").status_code == 200
        assert running.arrivals() == [("a.png", False)] * 3


@pytest.mark.usefixtures("md5_tags")
def test_content_that_came_back_arrives_once(running: RunningGateway, client: httpx.Client) -> None:
    for data in (b"one", b"two", b"one", b"one", b"one"):
        assert client.put("/uploads/adire/a.png", content=data).is_success
    assert running.arrivals() == [("a.png", False)] * 3


def test_ready_ends_the_upload_each_time_and_is_not_stored(running: RunningGateway, client: httpx.Client) -> None:
    answers = [client.put("/uploads/adire/_READY", content=b"") for _ in range(2)]
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(202, "ready")] * 2
    assert running.arrivals() == [("_READY", True)] * 2
    assert running.stored() == {}


def test_a_wrong_digest_stores_nothing(running: RunningGateway, client: httpx.Client) -> None:
    other, right = (digest(data)["Content-Digest"] for data in (b"other", b"picture"))
    bad = other, "sha-256=:a:", "sha-256", "sha-256=a", right.replace("=:", "=::"), f"{right}, {other}", right[:-1]
    for header in bad:
        answer = client.put("/uploads/adire/a.png", content=b"picture", headers={"Content-Digest": header})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "wrong_digest"), header
    assert (running.stored(), running.arrivals(), running.received()) == ({}, [], [])
    assert running.refused()["wrong_digest"] == len(bad)


def test_digests_of_other_algorithms_are_ignored(client: httpx.Client) -> None:
    right, other = (digest(data)["Content-Digest"] for data in (b"picture", b"other"))
    for header in ("md5=:a:", "", "sha-512=:YQ==:;x=1, md5=:YQ==:", f"sha-512=:YQ==:, {right}", f"{right};x=1"):
        answer = client.put("/uploads/adire/a.png", content=b"picture", headers={"Content-Digest": header})
        assert answer.is_success, header
    headers = [("Content-Digest", "md5=:YQ==:"), ("Content-Digest", other)]
    assert client.put("/uploads/adire/a.png", content=b"picture", headers=headers).status_code == 400


def test_what_an_ingest_leaves_out_is_refused(running: RunningGateway, client: httpx.Client) -> None:
    for name in ("clip.mov", ".hidden.png", "__MACOSX/a.png", "a"):
        answer = client.put(f"/uploads/adire/{name}", content=b"one")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_name"), name
    assert running.refused() == {"invalid_name": 4}


BAD = ["../a.png", "b/../../../a.png", "/etc/a.png", "b//a.png", "a\\b.png", "\0.png", "a" * 256 + ".png", "./a.png"]


def test_a_name_that_leads_elsewhere_is_refused(running: RunningGateway) -> None:
    for name in BAD:
        assert answered(running, f"/uploads/adire/{quote(name, safe='')}") == "422", name
    assert running.refused() == {"invalid_name": len(BAD)}
    assert not list(running.folder.rglob("*.png"))


def test_a_name_that_is_no_text_of_one_line_is_refused(running: RunningGateway) -> None:
    names = ["%FF.png", "b/%FE.png", "%ED%A0%80.png", "nl.png%0A", "n%0Al.png", "%0A/a.png", "_READY%0A", "a.png%0D"]
    for name in names:
        assert answered(running, f"/uploads/adire/{name}") == "422", name
    assert running.refused() == {"invalid_name": len(names)}
    assert (running.stored(), running.arrivals()) == ({}, [])


def test_a_dataset_that_leads_elsewhere_is_unknown(running: RunningGateway) -> None:
    for path in ("/uploads/../a.png", "/uploads/%2e%2e/a.png", "/uploads/..%2f..%2fetc/a.png"):
        assert answered(running, path) == "404", path
    assert running.refused() == {"unknown_dataset": 3}


def answered(running: RunningGateway, path: str) -> str:
    """The status of an upload to a path as it is: clients clean paths."""
    with running.begin(path, 0) as connection:
        return connection.recv(1000).decode().split()[1]


def test_a_folder_and_a_file_of_one_name(client: httpx.Client) -> None:
    assert client.put("/uploads/adire/a.png", content=b"one").status_code == 201
    assert client.put("/uploads/adire/a.png/b.png", content=b"one").status_code == 409
    assert client.put("/uploads/adire/c.png/b.png", content=b"one").status_code == 201
    assert client.put("/uploads/adire/c.png", content=b"one").status_code == 409


@pytest.mark.parametrize(
    ("key", "dataset", "status", "code"),
    [
        ("none", "adire", 401, "invalid_api_key"),
        ("visitor", "adire", 403, "insufficient_scope"),
        ("lace", "adire", 403, "insufficient_scope"),
        ("lace", "cotton", 404, "unknown_dataset"),
        ("ingest", "cotton", 404, "unknown_dataset"),
    ],
)
def test_who_may_upload_where(running: RunningGateway, key: str, dataset: str, status: int, code: str) -> None:
    with running.client(key) as client:
        answers = [
            client.put(f"/uploads/{dataset}/a.png", content=b"one"),
            client.get(f"/uploads/{dataset}"),
            client.post(f"/uploads/{dataset}/archive", content=zipped({"a.png": b"one"})),
        ]
    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {(status, code)}
    assert (running.stored(), running.arrivals()) == ({}, [])


def test_a_key_sees_its_datasets(running: RunningGateway) -> None:
    with running.client() as one, running.client("lace") as other:
        assert one.get("/uploads").json() == {
            "datasets": ["adire", "lace"],
            "most_bytes": 100 * 2**20,
            "most_archive_bytes": 2048 * 2**20,
        }
        assert other.get("/uploads").json()["datasets"] == ["lace"]
        assert "there are adire, lace" in one.put("/uploads/cotton/a.png").json()["detail"]
        assert other.put("/uploads/lace/a.png", content=b"one").status_code == 201


def test_a_listing_has_the_hash_of_every_file(
    running: RunningGateway, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{number}/{'ä' * number}.png": bytes(number) for number in range(7)}
    for name, data in files.items():
        running.store.write(f"uploads/adire/{name}", data)
    for limit in ("PAGE", "HASHED_BYTES"):
        monkeypatch.setattr(upload_store, limit, 4)
        found, pages = listing(client)
        assert pages > 1
        assert found == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    running.store.write("uploads/adire/0/.png", b"changed")
    assert listing(client)[0]["0/.png"] == hashlib.sha256(b"changed").hexdigest()


def test_a_listing_after_what_is_no_name(client: httpx.Client) -> None:
    client.put("/uploads/adire/a.png", content=b"one")
    for after, names in {"..": ["a.png"], "\0": ["a.png"], "a": ["a.png"], "b/": [], "ä" * 900: []}.items():
        answer = client.get("/uploads/adire", params={"after": after})
        assert [file["name"] for file in answer.raise_for_status().json()["files"]] == names, after
    assert client.get("/uploads/adire", params={"after": "a" * 901}).status_code == 400


def listing(client: httpx.Client) -> tuple[dict[str, str], int]:
    """The sha256 of each file, and how many pages there were."""
    found, pages, after = dict[str, str](), 0, ""
    while pages == 0 or after:
        answer = client.get("/uploads/adire", params={"after": after}).raise_for_status().json()
        found |= {file["name"]: file["sha256"] for file in answer["files"]}
        pages, after = pages + 1, answer["next"]
    return found, pages


def test_an_archive_is_stored_file_by_file(running: RunningGateway, client: httpx.Client) -> None:
    client.put("/uploads/adire/a.png", content=b"one")
    files = {"a.png": b"one", "b/c.jpg": b"two", "b/c.txt": b"large rings", "metadata.jsonl": b"{}", "x.mov": b""}
    answer = client.post("/uploads/adire/archive", content=zipped(files))
    assert answer.status_code == 200
    (left,) = answer.json().pop("left_out")
    assert (left["name"], "none of the kinds" in left["reason"]) == ("x.mov", True)
    assert answer.json()["unchanged"] == ["a.png"]
    assert answer.json()["stored"] == ["b/c.jpg", "b/c.txt", "metadata.jsonl"]
    assert running.stored() == {name: data for name, data in files.items() if name != "x.mov"}
    assert sorted(running.arrivals()) == [(name, False) for name in sorted(files) if name != "x.mov"]


def test_ready_in_an_archive_ends_the_upload_after_its_files(running: RunningGateway, client: httpx.Client) -> None:
    assert client.post("/uploads/adire/archive", content=zipped({"_READY": b"", "a.png": b"one"})).is_success
    assert running.arrivals() == [("a.png", False), ("_READY", True)]


@pytest.mark.parametrize(
    "archive",
    [
        overlapping(2000, 2_000_000),  # 4 GB in 200 KB
        zipped({"a.png": b"one", "b.png": bytes(50 * 2**20)}),
        zipped({"a.png": b"one", "../b.png": b"two"}),
        zipped({"a.png": b"one", "b.zip": zipped({"c.png": b"two"})}),
        b"no archive",
        b"",
    ],
    ids=["overlap", "ratio", "traversal", "nested", "other", "empty"],
)
def test_a_bomb_is_refused_before_anything_is_stored(
    running: RunningGateway, client: httpx.Client, archive: bytes
) -> None:
    answer = client.post("/uploads/adire/archive", content=archive)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_archive")
    assert "nothing was stored" in answer.json()["detail"]
    assert (running.stored(), running.arrivals(), running.received()) == ({}, [], [])
    assert running.refused() == {"invalid_archive": 1}


def test_what_precedes_a_damaged_entry_is_stored_and_arrives(running: RunningGateway, client: httpx.Client) -> None:
    archive = zipped({"a.png": b"one", "b.png": b"two and three"}, 0)
    answer = client.post("/uploads/adire/archive", content=damaged(archive, b"two and three"))
    assert answer.status_code == 422
    assert "entry 'b.png': it is damaged (Bad CRC-32" in answer.json()["detail"]
    assert answer.json()["detail"].endswith("1 files before it are stored")
    assert running.stored() == {"a.png": b"one"}
    assert running.arrivals() == [("a.png", False)]


def test_an_entry_whose_name_is_taken_is_left_out(running: RunningGateway, client: httpx.Client) -> None:
    client.put("/uploads/adire/b.png/c.png", content=b"one")
    answer = client.post("/uploads/adire/archive", content=zipped({"a.png": b"1", "b.png": b"2", "c.png": b"3"}))
    assert (answer.status_code, answer.json()["stored"]) == (200, ["a.png", "c.png"])
    (left,) = answer.json()["left_out"]
    assert (left["name"], "a file and a folder have one name" in left["reason"]) == ("b.png", True)
    assert sorted(running.arrivals()) == [("a.png", False), ("b.png/c.png", False), ("c.png", False)]


def test_a_store_that_fails_within_an_archive_says_what_is_stored(
    running: RunningGateway, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file = FolderStore.put_file

    def fail(store: FolderStore, key: str, source: BinaryIO) -> None:
        if key.endswith("b.png"):
            raise OSError("no space left on device")
        put_file(store, key, source)

    monkeypatch.setattr(FolderStore, "put_file", fail)
    answer = client.post("/uploads/adire/archive", content=zipped({"a.png": b"one", "b.png": b"two"}))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["detail"].endswith("send it again; 1 files before it are stored")
    assert running.arrivals() == [("a.png", False)]


@pytest.mark.parametrize(
    "error",
    [
        OSError("no space left on device"),
        ObjectUnreadable("a", "file:///store", "no rights"),
        EndpointConnectionError(endpoint_url="http://store"),
        ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"),
        S3UploadFailedError("SlowDown"),
    ],
)
def test_a_store_that_fails_is_a_503_to_be_sent_again_and_logged_once(
    running: RunningGateway,
    client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    for name in ("a.png", "b.png"):
        with monkeypatch.context() as away:
            away.setattr(FolderStore, "put_file", Mock(side_effect=error))
            for _ in range(3):
                answer = client.put(f"/uploads/adire/{name}", content=b"one")
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert (name, False) not in running.arrivals()
        assert client.put(f"/uploads/adire/{name}", content=b"one").status_code == 201
    records = [record for record in caplog.records if record.message.startswith("uploads cannot be stored")]
    assert len(records) == 2


def test_an_error_in_the_program_is_no_failure_of_the_store(
    running: RunningGateway, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderStore, "put_file", Mock(side_effect=TypeError("a mistake")))
    assert client.put("/uploads/adire/a.png", content=b"one").status_code == 500


def test_uploads_are_counted(running: RunningGateway, client: httpx.Client) -> None:
    for _ in range(2):
        client.put("/uploads/adire/a.png", content=b"one")
    text = httpx.get(f"{running.url}/metrics").text
    assert 'dyeworks_uploads_total{outcome="stored"} 1.0' in text
    assert 'dyeworks_uploads_total{outcome="unchanged"} 1.0' in text
    assert "dyeworks_upload_bytes_total 3.0" in text
