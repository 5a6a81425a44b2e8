"""The storefront: rendering, logs, a corrupt champion."""

import contextlib
import io
import json
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from deployments.stack import Stack
from tasks.core.models.identity import WEIGHTS
from tasks.core.registry.models import apply_config
from tasks.core.registry.releases import prefix, write_release
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.e2e.shops import MANIFEST, logged, published, random_lora, wait_for
from tests.events_server import EventsServer

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def prefect() -> Iterator[EventsServer]:
    server = EventsServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, prefect: EventsServer) -> Iterator[Stack]:
    extra = {
        "DYEWORKS_POLL_SECONDS": "0.2",
        "DYEWORKS_TRUSTED_ADDRESSES": "127.0.0.1",
        "DYEWORKS_LIMIT_SESSION": "",
        "PREFECT_API_URL": prefect.url,
    }
    stack = Stack(tmp_path_factory.mktemp("shop"), extra)
    apply_config(FolderStore(stack.home / "store"), adire(serving={"steps": 4}))
    try:
        stack.start_storefront()
        stack.wait("storefront", "/readyz")
        yield stack
    finally:
        stack.stop()


def line_of(shop: Stack, request_id: str) -> dict[str, Any]:
    """The line of a request in the prompt log, which is written by a timer of its own, before or after the votes."""
    wait_for(lambda: any(line["request_id"] == request_id for line in logged(shop)), "the prompt is logged")
    return next(line for line in logged(shop) if line["request_id"] == request_id)


def ask(shop: Stack, session: str = "ada", prompt: str = "rings") -> dict[str, Any]:
    """The picture of a prompt, and what rendered it."""
    body = {"prompt": prompt, "seed": 5, "user": session}
    answer = httpx.post(f"{shop.url('storefront')}/v1/images/generations", json=body, timeout=60)
    return dict(answer.raise_for_status().json()["data"][0])


def pixels(drawn: dict[str, Any]) -> bytes:
    """The pixels of a picture, whose file also says what made it."""
    return Image.open(io.BytesIO(b64decode(drawn["b64_json"]))).tobytes()


def health(shop: Stack) -> dict[str, Any]:
    """What the model's storefront says about it."""
    ready = httpx.get(f"{shop.url('storefront')}/readyz", timeout=30).raise_for_status().json()
    return dict(ready["models"]["adire"])


def test_prompt_is_rendered_and_logged_without_private_data(shop: Stack) -> None:
    first, second = (ask(shop, "wole", "rings in adire_style for me@example.com") for _ in range(2))
    assert first["release"] == "base"
    assert Image.open(io.BytesIO(b64decode(first["b64_json"]))).size == (64, 64)
    assert pixels(first) == pixels(second), "the same seed gives the same picture"
    wait_for(lambda: len(logged(shop)) >= 2, "both requests are logged")
    line = next(entry for entry in logged(shop) if entry["request_id"] == first["id"])
    assert line["prompt"] == "rings in adire_style for [email]"
    assert "wole" not in line["session"], "which is hexadecimal"


def test_vote_is_logged_with_the_session_and_without_the_prompt(shop: Stack) -> None:
    url, drawn = f"{shop.url('storefront')}/v1/images/feedback", ask(shop)
    vote: dict[str, Any] = {"id": drawn["id"], "liked": False}
    for body in (vote, vote | {"liked": True}):
        assert httpx.post(url, json=body, timeout=30).status_code == 204
    wait_for(lambda: len(logged(shop, "feedback")) >= 2, "the votes are logged")
    votes = logged(shop, "feedback")
    assert [(v["request_id"], v["liked"]) for v in votes] == [(vote["id"], v) for v in (False, True)]
    asked = line_of(shop, vote["id"])
    assert {v["session"] for v in votes} == {asked["session"]}
    assert "rings" not in json.dumps(votes)


def test_prometheus_reads_the_last_check(shop: Stack) -> None:
    url = f"{shop.url('storefront')}/metrics"
    assert "dyeworks_images_total" in httpx.get(url, timeout=30).text
    (shop.home / "store/models/adire/drift").mkdir(parents=True, exist_ok=True)
    (shop.home / "store/models/adire/drift/metrics.prom").write_text('dyeworks_drift_psi{model="adire"} 0.1\n')
    wait_for(lambda: 'dyeworks_drift_psi{model="adire"} 0.1' in httpx.get(url, timeout=30).text, "the check is shown")


def test_corrupt_release_is_rejected_and_reported_and_the_previous_one_served(
    shop: Stack, prefect: EventsServer, tmp_path: Path
) -> None:
    store = FolderStore(shop.home / "store")
    (tmp_path / "a").mkdir()
    good = write_release(store, "adire", random_lora(tmp_path / "a"), MANIFEST)
    bare = pixels(ask(shop))
    published(store, good, 1)
    wait_for(lambda: health(shop)["generation"] == 1, "the first release is served")
    assert health(shop) == {"status": "ok", "release": good, "generation": 1}
    shown = ask(shop)
    assert (shown["release"], pixels(shown) == bare) == (good, False)

    bad = write_release(store, "adire", tmp_path / "a", MANIFEST.model_copy(update={"training": "another"}))
    store.write(prefix("adire", bad) + WEIGHTS, b"damaged")
    published(store, bad, 2)
    wait_for(lambda: bool(prefect.events), "the event is sent")
    status = health(shop)
    assert (status["status"], status["release"], status["generation"]) == ("degraded", good, 1)
    assert f"release {bad}" in status["reason"]
    assert "does not match its sha256" in status["reason"]
    assert pixels(ask(shop)) == pixels(shown)
    (event,) = prefect.events
    assert event["event"] == "dyeworks.champion.unhealthy"
    assert (event["payload"]["generation"], event["payload"]["kind"]) == (2, "health")

    published(store, "", 3)  # as after the withdrawal of a first model
    wait_for(lambda: health(shop) == {"status": "ok", "release": "", "generation": 3}, "the bare base is served")
    again = ask(shop)
    assert (again["release"], pixels(again) == bare) == ("base", True)
    assert len(prefect.events) == 1


def test_what_was_answered_before_kill_9_is_logged(shop: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYEWORKS_STORE")  # that of this test; the storefront's is the home's
    answered: list[str] = []

    def visit(_: int) -> None:
        with contextlib.suppress(httpx.HTTPError):
            while True:
                answered.append(str(ask(shop)["id"]))

    with ThreadPoolExecutor(16) as visitors:
        visits = [visitors.submit(visit, number) for number in range(16)]
        wait_for(lambda: len(answered) >= 50, "requests are answered")
        shop.processes["storefront"].kill()
        for each in visits:
            each.result()
    shop.processes["storefront"].wait()
    shop.start_storefront()
    shop.wait("storefront", "/readyz")
    wait_for(lambda: set(answered) <= {line["request_id"] for line in logged(shop)}, "all of them are logged")
    wait_for(lambda: not list((shop.home / "spool").rglob("*.jsonl")), "the spool is empty")
