"""The patient transport against real sockets: a server that is locked, and one that says nothing at all."""

import contextlib
import socket
from threading import Thread

import httpx
import pytest

from tasks.core import http
from tasks.core.http import RetryTransport

LOCKED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine"
LATER = LOCKED.replace(b"Content", b"Retry-After: 0\r\nContent", 1)
SLOW_DOWN = LATER.replace(b"503 Service Unavailable", b"429 Too Many Requests")
SILENCE = b""
HANG_UP = None


def serve(listener: socket.socket, answers: list[bytes | None]) -> None:
    """Give each connection the next answer; `SILENCE` keeps it open and says nothing."""
    silent = []
    for answer in answers:
        connection, _ = listener.accept()
        connection.recv(65536)
        if answer == SILENCE:
            silent.append(connection)
            continue
        if answer:
            connection.sendall(answer)
        connection.close()
    for connection in silent:
        with contextlib.suppress(OSError):
            connection.close()


def ask(answers: list[bytes | None], once: bool = False) -> httpx.Response:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Thread(target=serve, args=(listener, answers), daemon=True)
        server.start()
        with httpx.Client(transport=RetryTransport(once), timeout=0.2) as client:
            response = client.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", json={"limit": 1})
        server.join()  # every answer was asked for
        return response


@pytest.mark.parametrize("trouble", [LOCKED, SILENCE, HANG_UP], ids=["locked", "silent", "hangs up"])
def test_asks_again_until_there_is_an_answer(trouble: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    assert ask([trouble, trouble, FINE]).text == "fine"


def test_the_last_answer_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    assert ask([LOCKED] * http.TRIES).status_code == httpx.codes.SERVICE_UNAVAILABLE


def test_the_last_error_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    with pytest.raises(httpx.TransportError):
        ask([HANG_UP] * http.TRIES)


@pytest.mark.parametrize("trouble", [LATER, SLOW_DOWN])
def test_what_may_be_done_once_is_repeated_where_the_server_asks_for_it(
    trouble: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    assert ask([trouble, trouble, FINE], once=True).text == "fine"


def test_what_may_be_done_once_is_repeated_while_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    with (
        httpx.Client(transport=RetryTransport(once=True)) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.post("http://127.0.0.1:1/")
    assert len(waits) == http.TRIES - 1


@pytest.mark.parametrize("trouble", [SILENCE, HANG_UP])
def test_what_may_have_been_done_is_not_done_again(trouble: bytes | None) -> None:
    with pytest.raises(httpx.TransportError):
        ask([trouble], once=True)


def test_what_may_be_done_once_is_not_repeated_after_a_503_that_asks_for_nothing() -> None:
    assert ask([LOCKED], once=True).status_code == httpx.codes.SERVICE_UNAVAILABLE


def test_all_tries_together_have_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    late = LATER.replace(b"Retry-After: 0", b"Retry-After: 3600")
    assert ask([late]).status_code == httpx.codes.SERVICE_UNAVAILABLE, "an hour is too long"
    monkeypatch.setattr(http, "FIRST_WAIT", 100)
    assert ask([LOCKED]).status_code == httpx.codes.SERVICE_UNAVAILABLE
    with pytest.raises(httpx.TransportError):
        ask([HANG_UP])


def test_waits_grow_and_are_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    for _ in range(2):
        ask([LOCKED] * http.TRIES)
    first, second = waits[: http.TRIES - 1], waits[http.TRIES - 1 :]
    assert all(a != b for a, b in zip(first, second, strict=True))
    for number, wait in enumerate(first):
        assert 0.5 <= wait / (http.FIRST_WAIT * 2**number) <= 1
