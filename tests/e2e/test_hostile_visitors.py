"""The storefront as a separate process, under hostile clients and with a failing store."""

import io
import socket
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from deployments.stack import Stack
from tasks.core.config.installation import ROOT
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.page_client import BASE, click, visit

pytestmark = pytest.mark.e2e
VISITS = 500


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    extra = {"DYEWORKS_POLL_SECONDS": "0.2", "DYEWORKS_LOG_SECONDS": "0.2", "DYEWORKS_TRUSTED_ADDRESSES": "127.0.0.1"}
    home = tmp_path_factory.mktemp("hostile")
    stack = Stack(home, extra | {"GRADIO_TEMP_DIR": str(home / "gradio")})
    apply_config(FolderStore(home / "store"), adire(serving={"steps": 1}))
    try:
        stack.start_storefront()
        stack.wait("storefront", "/readyz")
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def client(shop: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shop.url("storefront"), timeout=120) as client:
        yield client


def cancel_at_once(client: httpx.Client) -> int:
    """Click and cancel, as a browser does when the page is closed."""
    session = uuid4().hex
    _, event = click(client, "rings", session)
    body = {"session_hash": session, "fn_index": 0, "event_id": event}
    return client.post(f"{BASE}/cancel", json=body).status_code


def hang_up(shop: Stack, size: int) -> None:
    """Send a part of a render request, and disconnect."""
    body = b'{"prompt": "rings", "steps": 10}'
    whole = b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    whole += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    with socket.create_connection(("127.0.0.1", shop.ports["storefront"])) as connection:
        connection.sendall(whole[:size])


def draws(client: httpx.Client) -> None:
    """Both the API and the page return a picture."""
    by_api = client.post("/v1/images/generations", json={"prompt": "large rings", "seed": 1}).raise_for_status()
    assert Image.open(io.BytesIO(b64decode(by_api.json()["data"][0]["b64_json"]))).size == (64, 64)
    (shown,) = visit(client, "large rings")["pictures"]
    assert Image.open(io.BytesIO(b64decode(shown["file"].partition("base64,")[2]))).size == (64, 64)


def test_service_survives_cancels_disconnects_load_and_a_dead_store(shop: Stack, client: httpx.Client) -> None:
    draws(client)
    store, away = shop.home / "store", shop.home / "away"
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: cancel_at_once(client), range(64))) == {200}
        list(pool.map(lambda size: hang_up(shop, size), [20, 120, 130, 1000] * 16))
        draws(client)
        store.rename(away)
        store.write_text("no folder")
        crowd = list(pool.map(lambda i: click(client, f"rings {i}", uuid4().hex)[0], range(VISITS)))
        assert set(crowd) <= {200, 503}
        assert crowd.count(200) > 0
    deadline = time.monotonic() + 120
    while "problem" in visit(client, "rings"):  # while earlier requests are queued
        assert time.monotonic() < deadline
    draws(client)
    assert shop.processes["storefront"].poll() is None
    assert client.get("/readyz").status_code == 200
    store.unlink()
    away.rename(store)
    draws(client)
    assert [path for path in (shop.home / "gradio").rglob("*") if path.is_file()] == []


def test_a_base_model_that_cannot_be_loaded_ends_the_process_with_an_error(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "home")
    apply_config(FolderStore(Path(stack.environment["DYEWORKS_STORE"])), adire(base=str(tmp_path / "none")))
    dyeworks = str(Path(sys.executable).with_name("dyeworks"))
    command = [dyeworks, "serve", "storefront", "--port", str(stack.ports["storefront"])]
    ended = subprocess.run(
        command, cwd=ROOT, env=stack.environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 1
    assert "the rendering engine has stopped" in ended.stderr
