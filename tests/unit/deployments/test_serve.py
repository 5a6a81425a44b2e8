"""Public processes: weak secrets only on loopback; configured proxies; slow clients."""

import asyncio
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_network

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from pydantic import SecretStr
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from deployments import serve
from deployments.cli.app import run
from deployments.exposure import ExposureGuard, check_exposure
from deployments.gateway.app import create_app
from deployments.serve import Connections, configure
from tasks.core.config.installation import Settings
from tasks.core.errors import SettingError

STRONG = SecretStr("6f1ed002ab5595859014ebf0951522d9")
LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost"]
OPEN = ["0.0.0.0", "::", "192.0.2.7", "2001:db8::1", "", "shop.example", "/run/shop.sock"]


@pytest.mark.parametrize("secret", ["", "change-me", "short"])
@pytest.mark.parametrize("host", OPEN)
def test_weak_secret_is_rejected_beyond_loopback(host: str, secret: str) -> None:
    with pytest.raises(SettingError, match="DYEWORKS_SESSION_KEY: has fewer than 12 characters"):
        check_exposure(host, "DYEWORKS_SESSION_KEY", SecretStr(secret))
    check_exposure(host, "DYEWORKS_SESSION_KEY", STRONG)


@pytest.mark.parametrize("host", LOOPBACK)
def test_weak_secret_is_accepted_on_loopback(host: str) -> None:
    check_exposure(host, "DYEWORKS_SESSION_KEY", SecretStr(""))


@pytest.mark.parametrize(("service", "setting"), [("storefront", "SESSION_KEY"), ("gateway", "WEBHOOK_TOKEN")])
def test_serve_command_rejects_a_weak_secret(capsys: pytest.CaptureFixture[str], service: str, setting: str) -> None:
    assert run(["serve", service, "--host", "0.0.0.0"]) == 1
    assert f"DYEWORKS_{setting}: has fewer than 12 characters, and 0.0.0.0 is not loopback" in capsys.readouterr().err


def get(app: FastAPI | ExposureGuard, address: str) -> Response:
    return TestClient(app, base_url=f"http://{address}", raise_server_exceptions=False).get("/livez")


def test_server_started_another_way_responds_503_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = create_app(Settings())
    refused = get(gateway, "192.0.2.7")
    assert (refused.status_code, "DYEWORKS_WEBHOOK_TOKEN" in refused.text) == (503, True)
    assert get(gateway, "127.0.0.1").status_code == 200
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", STRONG.get_secret_value())
    assert get(create_app(Settings()), "192.0.2.7").json() == {"status": "ok"}


async def address(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that returns the client's address."""
    await PlainTextResponse(str(scope["client"][0]))(scope, receive, send)


@pytest.mark.parametrize(
    ("proxies", "seen"), [("", "127.0.0.1"), ("198.51.100.1", "127.0.0.1"), ("127.0.0.1", "192.0.2.7")]
)
def test_only_configured_proxies_are_trusted(proxies: str, seen: str) -> None:
    config = configure("storefront", "127.0.0.1", 1, Settings(proxies=proxies))
    config.app, config.factory = address, False
    config.load()
    client = TestClient(config.loaded_app, client=("127.0.0.1", 5))
    assert client.get("/", headers={"X-Forwarded-For": "10.9.8.7, 192.0.2.7"}).text == seen


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """An application whose responses take longer than the timeout for request heads."""
    await asyncio.sleep(1.0)
    await PlainTextResponse("late")(scope, receive, send)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server of `slow` with a short timeout."""
    monkeypatch.setattr(serve, "HEAD_SECONDS", 0.3)
    config = configure("storefront", "127.0.0.1", 0, Settings())
    config.app, config.factory, config.lifespan = slow, False, "off"
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(30)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: loc"])
def test_idle_connections_are_closed_and_pending_responses_are_not(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b""
    assert httpx.get(f"http://127.0.0.1:{port}/", timeout=30).text == "late"


def test_one_client_cannot_hold_all_connections(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "OF_ONE_CLIENT", 2)
    monkeypatch.setattr(serve, "HEAD_SECONDS", 60)
    monkeypatch.setattr(serve, "is_loopback", lambda _: False)
    with ExitStack() as opened:
        held = [opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(3)]
        assert held[2].recv(100) == b"", "the third is closed"
        held[0].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert held[0].recv(100).startswith(b"HTTP/1.1 200")
    assert httpx.get(f"http://127.0.0.1:{port}/", timeout=30).text == "late", "closed ones are no longer counted"


def test_proxies_and_trusted_networks_speak_for_many_clients() -> None:
    connections = Connections([ip_network("192.0.2.0/24")])
    assert [connections.opened(host) for host in ("127.0.0.1", "::1", "192.0.2.7")] == ["", "", ""]
    assert connections.opened("2001:db8::1") == connections.opened("2001:db8::2") == "2001:db8::/64"
    connections.closed("2001:db8::/64")
    assert connections.counts == {"2001:db8::/64": 1}


def test_oversized_request_head_is_rejected(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_as_many_files_may_be_open_as_connections_need() -> None:
    """In a process of its own, with the limit that many systems have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = f"""
import resource
from deployments.serve import allow_files
resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))
allow_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == (min(serve.FILES, hard) if hard >= 0 else serve.FILES)
