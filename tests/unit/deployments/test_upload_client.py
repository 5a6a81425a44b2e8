"""The client of uploads against a real gateway: what is sent, what is not, and what is tried again."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event
from urllib.parse import quote

import httpx
import pytest

from deployments import upload_client
from deployments.upload_client import (
    GatewaySilent,
    NoGateway,
    UploadClient,
    UploadObserver,
    UploadRejected,
    UploadReport,
)
from tasks.core.errors import SettingError
from tasks.core.store import FolderStore, S3Store
from tests.local_server import LocalServer
from tests.s3_server import connect, free_ports
from tests.unit.deployments.gateway.running import RunningGateway, running_gateway


@dataclass
class Memory:
    """A file in memory, of whose size something else may be said."""

    name: str
    data: bytes
    claimed: int = -1

    @property
    def size(self) -> int:
        return len(self.data) if self.claimed < 0 else self.claimed

    def chunks(self) -> Iterator[bytes]:
        yield from (self.data[place : place + 10] for place in range(0, len(self.data), 10))


class Counting(UploadObserver):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.bytes, self.files, self.problems = 0, 0, list[str]()

    def moved(self, size: int) -> None:
        self.bytes += size

    def done(self) -> None:
        self.files += 1

    def failed(self, problem: str) -> None:
        self.problems.append(problem)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_client, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(upload_client, "MOST_ASKED", 0.01)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path, upload_mib=1) as found:
        yield found


def files(count: int = 9) -> list[Memory]:
    return [Memory(f"b/ä {number}.png", f"picture {number}".encode() * 10) for number in range(count)]


def sent(running: RunningGateway, some: list[Memory], observer: Counting, key: str = "ingest") -> UploadReport:
    async def send() -> UploadReport:
        async with UploadClient(running.url, running.keys.get(key, key), observer, 5) as client:
            report = await client.send(await client.dataset("adire"), some)
            await client.end("adire")
            return report

    return asyncio.run(send())


def test_files_are_sent_once(running: RunningGateway) -> None:
    some, first, again = files(), Counting(), Counting()
    size = sum(file.size for file in some)
    assert sent(running, some, first) == UploadReport(sent=9, sent_bytes=size)
    assert running.stored() == {file.name: file.data for file in some}
    assert sent(running, some, again) == UploadReport(unchanged=9)
    assert (first.bytes, first.files) == (again.bytes, again.files) == (size, 9)
    names = [name for name, ready in running.arrivals() if not ready]
    assert sorted(names) == sorted(file.name for file in some)


def test_a_file_of_a_known_name_and_size_with_other_content_is_sent(running: RunningGateway) -> None:
    sent(running, [Memory("a.png", b"one")], Counting())
    assert sent(running, [Memory("a.png", b"two")], Counting()).sent == 1
    assert running.stored() == {"a.png": b"two"}


def test_files_in_an_s3_store_are_known_by_their_etags(bucket: str, tmp_path: Path) -> None:
    with running_gateway(tmp_path, f"s3://{bucket}/upload-client") as running:
        assert isinstance(running.store, S3Store)
        some = files(3)
        assert sent(running, some, Counting()).sent == 3
        (tag,) = {len(found.tag) for found in running.store.scan("uploads/")}
        assert tag == 32
        assert running.stored() == {file.name: file.data for file in some}
        assert sent(running, some, Counting()) == UploadReport(unchanged=3)
        with running.client() as client:
            assert client.put(f"/uploads/adire/{some[0].name}", content=some[0].data).status_code == 200
            for found in running.store.scan("uploads/"):
                item = {"key": quote(f"upload-client/{found.key}"), "eTag": found.tag, "sequencer": "01"}
                notification = {"Records": [{"s3": {"bucket": {"name": bucket}, "object": item}}]}
                assert client.post("/hooks/s3", json=notification).json()["new"] == 0, "what the gateway has written"
    assert connect().list_objects_v2(Bucket=bucket, Prefix="upload-client/uploads/")["KeyCount"] == 3


def test_failures_of_the_store_are_tried_again(running: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    failures, usual, observer = [OSError("away")] * 5, FolderStore.put_file, Counting()

    def put_file(store: FolderStore, key: str, source: object) -> None:
        if failures:
            raise failures.pop()
        usual(store, key, source)  # type: ignore[arg-type]

    monkeypatch.setattr(FolderStore, "put_file", put_file)
    some = files()
    assert sent(running, some, observer).sent == 9
    assert observer.bytes == sum(file.size for file in some)
    assert set(observer.problems) == {"the store failed, the log says how; send it again"}
    assert running.stored() == {file.name: file.data for file in some}


def test_files_that_cannot_be_taken_stop_no_others(running: RunningGateway) -> None:
    class Gone(Memory):
        def chunks(self) -> Iterator[bytes]:
            raise FileNotFoundError(2, "No such file", self.name)

    some = [
        Memory("large.png", bytes(2**20 + 1)),
        Memory("clip.mov", b"film"),
        Gone("gone.png", b"one"),
        Memory("grown.png", b"one two", 3),
        Memory("shrunk.png", b"one", 7),
        Memory("a.png", b"one"),
    ]
    report = sent(running, some, Counting())
    assert report.sent == 1
    changed = "it was changed while it was sent"
    assert {name: reason.partition(":")[0] for name, reason in report.refused} == {
        "large.png": "it has more than the 1,048,576 bytes that are taken",
        "clip.mov": "'clip.mov' is not taken",
        "gone.png": "it cannot be read",
        "grown.png": changed,
        "shrunk.png": changed,
    }
    assert running.stored() == {"a.png": b"one"}


@pytest.mark.parametrize(("key", "problem"), [("no key", "send a valid key"), ("visitor", "lacks the scope")])
def test_a_key_that_may_not_upload_ends_it_at_once(running: RunningGateway, key: str, problem: str) -> None:
    with pytest.raises(UploadRejected, match=problem):
        sent(running, files(), Counting(), key)


def test_a_dataset_has_to_be_named_unless_there_is_one(running: RunningGateway) -> None:
    async def dataset(key: str, name: str = "") -> str:
        async with UploadClient(running.url, running.keys[key], Counting()) as client:
            found = await client.dataset(name)
            await client.listing(found)
            return found

    assert asyncio.run(dataset("lace")) == "lace"
    with pytest.raises(UploadRejected, match="name a dataset with --dataset; the key's are: adire, lace"):
        asyncio.run(dataset("ingest"))
    with pytest.raises(UploadRejected, match="no model subscribes to a dataset 'silk'; there are adire, lace"):
        asyncio.run(dataset("ingest", "silk"))


def test_an_address_where_no_gateway_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_client, "FIRST_SECONDS", 0.1)
    observer, (port,) = Counting(), free_ports(1)

    async def send() -> None:
        async with UploadClient(f"http://127.0.0.1:{port}/", "key", observer) as client:
            await client.dataset()

    with pytest.raises(GatewaySilent, match=rf"http://127\.0\.0\.1:{port} does not take uploads"):
        asyncio.run(send())
    assert len(observer.problems) == 1


@pytest.mark.parametrize(
    ("status", "place", "problem"),
    [
        (200, "", "what answers is something else"),
        (404, "", "status 404"),
        (405, "", "status 405"),
        (301, "/welcome", "it redirects to /welcome"),
        (
            308,
            "HTTPS://example.org/uploads",
            "it redirects to HTTPS://example.org/uploads; the key was sent unencrypted: replace it, and use the https "
            "address",
        ),
    ],
)
def test_an_address_of_another_service_is_named(status: int, place: str, problem: str) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if place:
                self.send_header("Location", place)
            self.end_headers()
            self.wfile.write(b"<h1>welcome</h1>")

    server = LocalServer(Page)
    server.start()
    with pytest.raises(NoGateway) as found:
        asyncio.run(chosen_dataset(server.address))
    server.stop()
    where = f"no gateway answers at {server.address}/uploads"
    assert str(found.value) == f"{where}: {problem}; correct --url or DYEWORKS_GATEWAY_URL"


def test_another_path_of_a_gateway_is_named(running: RunningGateway) -> None:
    with pytest.raises(NoGateway, match=f"no gateway answers at {running.url}/api/uploads: Not Found; correct"):
        asyncio.run(chosen_dataset(f"{running.url}/api/"))


async def chosen_dataset(url: str) -> None:
    async with UploadClient(url, "key", Counting()) as client:
        await client.dataset()


def test_a_key_that_cannot_be_sent_is_neither_tried_again_nor_shown(running: RunningGateway) -> None:
    observer = Counting()
    with pytest.raises(SettingError, match="DYEWORKS_UPLOAD_KEY: no request can be made with it"):
        sent(running, files(), observer, "dyw_ingest_SECRET\r")
    assert observer.problems == []


def test_a_line_that_is_slow_is_no_failure(running: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may take longer than the client's patience, and then fail once."""
    clock, failures, usual, observer = [0.0], [OSError("away")], FolderStore.put_file, Counting()

    class Slow(Memory):
        def chunks(self) -> Iterator[bytes]:
            for chunk in super().chunks():
                clock[0] += 4
                yield chunk

    def put_file(store: FolderStore, key: str, source: object) -> None:
        if failures:
            raise failures.pop()
        usual(store, key, source)  # type: ignore[arg-type]

    monkeypatch.setattr(FolderStore, "put_file", put_file)
    monkeypatch.setattr(upload_client, "monotonic", lambda: clock[0])
    assert sent(running, [Slow("a.png", bytes(100))], observer).sent == 1
    assert len(observer.problems) == 1


@pytest.mark.parametrize(
    ("status", "problem"),
    [(503, "the disk is full"), (507, "the disk is full"), (0, "disconnected"), (None, "ReadTimeout")],
)
def test_uploads_that_fail_after_their_body_are_not_tried_for_ever(
    status: int | None, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent of a file that fails is no progress; 0: the connection is closed, None: nothing is answered."""
    monkeypatch.setattr(upload_client, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(upload_client, "TIMEOUT", httpx.Timeout(10, read=10 if status is not None else 0.3))
    over = Event()

    class Full(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            named = {"datasets": ["adire"], "most_bytes": 1000, "most_archive_bytes": 1000}
            self.answer(200, named if self.path == "/uploads" else {"dataset": "adire", "files": []})

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if status:
                self.answer(status, {"detail": "the disk is full"})
            elif status is None:
                over.wait()

        def answer(self, status: int, body: object) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

    async def send(url: str) -> None:
        async with UploadClient(url, "key", Counting(), 0.2) as client:
            await client.send(await client.dataset(), files())

    server = LocalServer(Full)
    server.start()
    with pytest.raises(GatewaySilent, match=problem):
        asyncio.run(asyncio.wait_for(send(server.address), 30))
    over.set()
    server.stop()
