"""The patient transport against real sockets: a server that is locked, and one that says nothing at all."""

import contextlib
import socket
from threading import Thread

import httpx
import pytest

from tasks.core import http
from tasks.core.http import PatientTransport

LOCKED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine"
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


def ask(answers: list[bytes | None]) -> httpx.Response:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Thread(target=serve, args=(listener, answers), daemon=True)
        server.start()
        with httpx.Client(transport=PatientTransport(), timeout=0.2) as client:
            response = client.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", json={"limit": 1})
        server.join()
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
