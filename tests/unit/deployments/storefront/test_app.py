"""The storefront's application with the embedded base: no request causes a 500."""

import asyncio
import io
import json
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient
from httpx2 import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from deployments.storefront.app import create_app
from deployments.storefront.images_api import cancel_on_disconnect
from deployments.storefront.request_filter import MOST_BYTES
from tasks.core.config.installation import Settings
from tasks.core.errors import SettingError
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire

ROUTES = ["/v1/images/generations", "/v1/images/feedback", "/shop/gradio_api/queue/join", "/shop/gradio_api/cancel"]
PLAIN = ["/", "/shop/", "/shop/config", "/shop/gradio_api/info", "/v1/models", "/livez", "/readyz", "/metrics"]
HEADERS = [
    *("Host", "Content-Type", "Accept", "Accept-Language", "Cookie", "Range", "Origin", "Referer"),
    *("X-Gradio-Server", "X-Gradio-User", "X-Forwarded-For", "X-Forwarded-Host"),
    *("X-Forwarded-Proto", "X-Forwarded-Prefix"),
]
FUZZ = settings(
    derandomize=True, deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


QUICK = adire(serving={"steps": 1})


def start(local: Settings) -> Iterator[TestClient]:
    client = TestClient(create_app(local), base_url="http://127.0.0.1", raise_server_exceptions=False)
    with client:
        yield client


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_ready(client: TestClient) -> bool:
    return client.get("/readyz").status_code == 200


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = tmp_path_factory.mktemp("shop") / "store"
    apply_config(FolderStore(store), QUICK)
    for client in start(
        Settings(store=str(store), device="cpu", proxies="127.0.0.1", limit_address="", limit_session="")
    ):
        wait_until(lambda client=client: is_ready(client))  # type: ignore[misc]
        yield client


def post(client: TestClient, body: bytes, route: str = ROUTES[0], **headers: str) -> Response:
    return client.post(route, content=body, headers={"Content-Type": "application/json"} | headers)


TEXT = st.text(st.characters(), max_size=30) | st.sampled_from(["\ud800", "\x00", "\u200b", "rings", "abc"])
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))
NAMES = [
    "prompt",
    "seed",
    "user",
    "n",
    "size",
    "model",
    "guidance",
    "output_format",
    "stream",
    "id",
    "liked",
    "data",
    "fn_index",
    "session_hash",
    "event_id",
    "trigger_id",
]
MEANT = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(NAMES, JSON)
    | {
        "prompt": TEXT | JSON,
        "steps": st.integers(-1, 3) | JSON,
        "fn_index": st.integers(-1, 4) | JSON,
        "data": st.lists(TEXT, max_size=2) | JSON,
        "session_hash": st.sampled_from(["abc", "def", "ghi"]) | JSON,
    },
)
BODIES = st.binary(max_size=200) | (JSON | MEANT).map(lambda value: json.dumps(value).encode())


@FUZZ
@given(route=st.sampled_from(ROUTES), body=BODIES)
def test_no_body_causes_a_500(shop: TestClient, route: str, body: bytes) -> None:
    assert post(shop, body, route).status_code < 500, body


@FUZZ
@given(
    route=st.sampled_from(
        [*ROUTES, "/", "/shop/", "/shop/config", "/shop/gradio_api/info", "/v1/models", "/readyz", "/metrics"]
    ),
    method=st.sampled_from(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"]),
    query=st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="#"), max_size=40),
    name=st.sampled_from(HEADERS),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30),
)
def test_no_method_query_or_header_causes_a_500(
    shop: TestClient, route: str, method: str, query: str, name: str, value: str
) -> None:
    headers = {name.encode(): value.encode("latin-1")}
    answer = shop.request(method, f"{route}?{query}", headers=headers, content=b"", follow_redirects=False)
    assert answer.status_code < 500


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"prompt": "\\ud800"}', 400),
        (b'{"prompt": "rings", "\\udfff": 1}', 400),
        (b'{"prompt": NaN}', 400),
        (b'{"prompt": "rings", "seed": Infinity}', 400),
        (b'{"prompt": "rings", "seed": ' + b"9" * 5000 + b"}", 400),
        (b"[" * 60_000, 400),
        (b'{"prompt": "\xff\xfe"}', 400),
        (b'{"prompt": "' + b"x" * MOST_BYTES + b'"}', 413),
        (b"", 400),
    ],
)
def test_invalid_body_is_rejected(shop: TestClient, body: bytes, status: int) -> None:
    answer = post(shop, body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["error"]["message"] == answer.json()["detail"]


@pytest.mark.parametrize(
    "prompt", [" \t\n", "\u200b\u200d\ufeff", "\u00a0\u3000\u2028", "\x00\x07", "\u3164\u2800\u115f", "\u0301\ufe0f"]
)
def test_prompt_without_visible_characters_is_rejected(shop: TestClient, prompt: str) -> None:
    answer = post(shop, json.dumps({"prompt": prompt}).encode())
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")


@pytest.mark.parametrize("prompt", ["7", "\U0001f9f5", "\u6765", "...", " a "])
def test_prompt_with_a_visible_character_is_rendered(shop: TestClient, prompt: str) -> None:
    answer = post(shop, json.dumps({"prompt": prompt, "seed": 1}).encode())
    assert Image.open(io.BytesIO(b64decode(answer.json()["data"][0]["b64_json"]))).size == (64, 64)


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/upload",
        "gradio_api/file=/etc/passwd",
        "gradio_api/proxy=https://example.org/",
        "gradio_api/run/show",
        "gradio_api/call/show",
        "gradio_api/component_server",
        "gradio_api/process_recording",
        "gradio_api/deep_link",
        "monitoring",
        "login",
        "assets/%00",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unneeded_gradio_routes_are_not_served(shop: TestClient, path: str, method: str) -> None:
    file = {"files": ("a.png", b"x" * 1000)} if method == "POST" else None
    assert shop.request(method, f"/shop/{path}", files=file).status_code == 404


def test_page_works_behind_a_proxy_with_a_path_prefix(shop: TestClient) -> None:
    asked = {"X-Forwarded-Prefix": "/dye/", "X-Forwarded-Host": "cloth.example", "X-Forwarded-Proto": "https"}
    assert shop.get("/", headers=asked, follow_redirects=False).headers["location"] == "/dye/shop/"
    assert shop.get("/", follow_redirects=False).headers["location"] == "shop/"
    slash = shop.get("/shop", headers=asked, follow_redirects=False).headers["location"]
    assert slash.endswith("/dye/shop/")
    assert shop.get("/shop/config", headers=asked).json()["root"] == "https://cloth.example/dye/shop"
    assert shop.get("/shop/config").json()["root"] == "http://127.0.0.1/shop"


def test_rendering_continues_when_the_store_fails(tmp_path: Any) -> None:
    store, away = tmp_path / "store", tmp_path / "away"
    apply_config(FolderStore(store), QUICK)
    local = Settings(store=str(store), device="cpu", poll_seconds=0.05, log_seconds=0.05)
    for client in start(local):
        wait_until(lambda client=client: is_ready(client))  # type: ignore[misc]
        store.rename(away)
        store.write_text("no folder")
        wait_until(lambda client=client: client.get("/readyz").json()["status"] == "degraded")  # type: ignore[misc]
        assert "the store cannot be read" in client.get("/readyz").json()["models"]["adire"]["reason"]
        drawn = post(client, b'{"prompt": "rings"}')
        (picture,) = drawn.json()["data"]
        assert (drawn.status_code, picture["release"], picture["generation"]) == (200, "base", 0)
        vote = {"id": picture["id"], "liked": True}
        assert client.post("/v1/images/feedback", json=vote).status_code == 204
        text = client.get("/metrics").text
        assert 'dyeworks_images_total{generation="base",model="adire",outcome="rendered",route="champion"} 1.0' in text
        assert 'dyeworks_votes_total{liked="true",model="adire"} 1.0' in text
        assert 'dyeworks_prompt_log_lines{model="adire"} 1.0' in text
        store.unlink()
        away.rename(store)
        wait_until(lambda: len(list(store.rglob("*.jsonl.gz"))) == 2)


def test_start_without_a_store_responds_503_until_it_is_available(tmp_path: Any) -> None:
    store = tmp_path / "store"
    store.write_text("no folder")
    for client in start(Settings(store=str(store), device="cpu", poll_seconds=0.05)):
        answers: list[Response] = [
            client.get("/readyz"),
            client.get("/v1/models"),
            post(client, b'{"prompt": "rings"}'),
        ]
        assert [a.status_code for a in answers] == [503] * 3
        assert all("store" in a.json()["detail"] and a.headers["Retry-After"] for a in answers)
        assert [client.get(path).status_code for path in ("/livez", "/metrics", "/shop/")] == [200] * 3
        store.unlink()
        apply_config(FolderStore(store), QUICK)
        wait_until(lambda client=client: is_ready(client))  # type: ignore[misc]
        assert post(client, b'{"prompt": "rings"}').status_code == 200


def test_invalid_settings_prevent_the_start() -> None:
    with pytest.raises(SettingError, match="DYEWORKS_TRUSTED_ADDRESSES"):
        create_app(Settings(trusted_addresses="my backend"))


def test_request_is_cancelled_when_the_client_disconnects() -> None:
    async def ask() -> list[str]:
        events: list[str] = []

        async def draw() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                events.append("cancelled")
                raise
            return "drawn"

        async def receive() -> dict[str, str]:
            await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        with pytest.raises(HTTPException, match="disconnected"):
            await cancel_on_disconnect(Request({"type": "http"}, receive), draw())
        await asyncio.sleep(0)
        return events

    assert asyncio.run(ask()) == ["cancelled"]


def test_what_is_refused_counts_against_no_limit(tmp_path: Any) -> None:
    apply_config(FolderStore(tmp_path / "store"), QUICK)
    year = "1/year"  # an hour's or a minute's window, which begins with the clock's, may end in the middle of the test
    local = Settings(store=str(tmp_path / "store"), cache=tmp_path / "cache", device="cpu", limit_address=year)
    for client in start(local):
        wait_until(lambda client=client: is_ready(client))  # type: ignore[misc]
        asked = (b'{"prompt": "rings", "size": "9x9"}', b'{"prompt": "rings"}', b'{"prompt": "rings"}')
        answers = [post(client, body) for body in asked]
        assert [answer.status_code for answer in answers] == [400, 200, 429]
        assert answers[2].headers["Retry-After"] == "119", "months, but clients ignore more"
