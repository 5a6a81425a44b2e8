"""Uploads that are too large, too slow, cut off or too many: each is refused, and leaves nothing."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from deployments.gateway import received
from tasks.core.store import FolderStore
from tests.gateway_process import gateway
from tests.unit.deployments.gateway.running import RunningGateway, prepare, running_gateway, wait_until
from tests.unit.deployments.gateway.zips import zipped

MEBIBYTE = 2**20


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path, upload_mib=1, archive_mib=2) as found:
        yield found
        assert found.received() == []


def answer_of(connection: socket.socket) -> tuple[int, str]:
    """The status and the code of an answer."""
    head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"] or ""


def test_a_body_is_refused_by_its_length_before_it_is_sent(running: RunningGateway) -> None:
    with running.begin("/uploads/adire/a.png", 100 * MEBIBYTE) as connection:
        connection.settimeout(30)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert running.refused() == {"too_large": 1}


def test_a_body_of_unknown_length_is_refused_once_it_is_too_large(running: RunningGateway) -> None:
    def body(sent: int = 0) -> Iterator[bytes]:
        while sent < 100 * MEBIBYTE:
            sent += 2**16
            yield bytes(2**16)

    with running.client() as client:
        answer = client.put("/uploads/adire/a.png", content=body())
    assert answer.status_code == 413
    assert (running.stored(), running.arrivals()) == ({}, [])


@pytest.mark.parametrize("size", [MEBIBYTE, MEBIBYTE + 1])
def test_the_limit_is_that_of_the_setting(running: RunningGateway, size: int) -> None:
    with running.client() as client:
        assert client.put("/uploads/adire/a.png", content=bytes(size)).is_success == (size == MEBIBYTE)
        archive = zipped({"a.png": bytes(size)}, 0)
        answer = client.post("/uploads/adire/archive", content=archive)
        assert answer.status_code == (200 if size == MEBIBYTE else 422)
        assert client.post("/uploads/adire/archive", content=bytes(size + MEBIBYTE)).status_code in {413, 422}


def test_a_body_that_stops_is_ended(running: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received, "IDLE_SECONDS", 0.2)
    with running.begin("/uploads/adire/a.png", 1000, b"the beginning") as connection:
        connection.settimeout(30)
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert (running.stored(), running.arrivals()) == ({}, [])
    assert running.refused() == {"too_slow": 1}


def test_a_body_that_drips_is_ended(running: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received, "IDLE_SECONDS", 0.5)
    with running.begin("/uploads/adire/a.png", 100_000) as connection:
        connection.settimeout(0.02)
        answer = b""
        while not answer:
            connection.sendall(b"x")
            try:
                answer = connection.recv(1000)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_slow_body_that_goes_on_is_taken(running: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received, "IDLE_BYTES", 1)
    monkeypatch.setattr(received, "IDLE_SECONDS", 5)
    with running.begin("/uploads/adire/a.png", 50) as connection:
        for _ in range(50):
            connection.sendall(b"x")
        assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")
    assert running.stored() == {"a.png": b"x" * 50}


def test_a_client_that_hangs_up_leaves_nothing(running: RunningGateway) -> None:
    running.begin("/uploads/adire/a.png", 1000, b"the beginning").close()
    wait_until(lambda: running.refused() == {"disconnected": 1})
    assert (running.stored(), running.arrivals(), running.gateway.uploads.files.used) == ({}, [], {})


def test_more_uploads_at_once_than_there_are_places_are_told_to_wait(
    running: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.gateway.uploads.files, "most", 3)
    with ExitStack() as stack, running.client() as client:
        for number in range(3):
            stack.enter_context(running.begin(f"/uploads/adire/{number}.png", 10, b"x"))
        wait_until(lambda: running.gateway.uploads.files.used.total() == 3)
        answer = client.put("/uploads/adire/a.png", content=b"one")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        stack.close()
        wait_until(lambda: running.gateway.uploads.files.used.total() == 0)
        assert client.put("/uploads/adire/a.png", content=b"one").status_code == 201


def test_one_key_does_not_take_the_places_of_others(running: RunningGateway) -> None:
    places = running.gateway.uploads.files
    with ExitStack() as stack, running.client() as client, running.client("lace") as other:
        for number in range(places.of_one):
            stack.enter_context(running.begin(f"/uploads/adire/{number}.png", 10, b"x"))
        wait_until(lambda: places.used.total() == places.of_one)
        assert client.put("/uploads/adire/a.png", content=b"one").status_code == 503
        assert other.put("/uploads/lace/a.png", content=b"one").status_code == 201


def test_a_disk_without_room_is_a_507_to_be_sent_again_and_logged_once(
    running: RunningGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running.client() as client, monkeypatch.context() as full:
        full.setattr(received, "ROOM_BYTES", 2**60)
        for path in ("a.png", "b.png"):
            answer = client.put(f"/uploads/adire/{path}", content=b"one")
            assert (answer.status_code, answer.headers["Retry-After"]) == (507, "60")
        assert client.post("/uploads/adire/archive", content=zipped({"a.png": b"one"})).status_code == 507
        assert "uploads cannot be received on the gateway's disk" in client.get("/readyz").json()["problems"]
    assert [record.levelname for record in caplog.records if "cannot be received" in record.message] == ["ERROR"]
    with running.client() as client:
        assert client.put("/uploads/adire/a.png", content=b"one").status_code == 201
        assert not any("disk" in problem for problem in client.get("/readyz").json()["problems"])


def test_a_gateway_that_is_killed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "store")
    keys = prepare(store)
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", "a-long-token")
    with gateway() as process:
        headers = {"Authorization": f"Bearer {keys['ingest']}"}
        wait_until(lambda: httpx.get(f"{process.url}/uploads", headers=headers).is_success)

        def body() -> Iterator[bytes]:
            yield bytes(2 * MEBIBYTE)
            process.kill()
            yield bytes(MEBIBYTE)

        with pytest.raises(httpx.TransportError):
            httpx.put(f"{process.url}/uploads/adire/a.png", headers=headers, content=body())
    assert list(store.list("uploads/")) == []
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
