"""The storefront: a picture for a prompt, a line in the log, and the page in a real browser."""

import gzip
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from deployments.stack import Stack

pytestmark = pytest.mark.e2e
CHROMIUM = shutil.which("chromium") or ""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("shop"), {"DYEWORKS_RENDER_STEPS": "4"})
    try:
        stack.start_storefront()
        stack.wait("storefront", "/health")
        yield stack
    finally:
        stack.stop()


def logged(stack: Stack) -> list[dict[str, str]]:
    files = sorted((stack.home / "store/prompts/adire").rglob("*.jsonl.gz"))
    return [json.loads(line) for f in files for line in gzip.decompress(f.read_bytes()).splitlines()]


def test_a_prompt_is_rendered_and_logged_without_private_data(shop: Stack) -> None:
    body = {"prompt": "rings in adire_style for me@example.com", "seed": 5, "session": "ada"}
    answers = [httpx.post(f"{shop.url('storefront')}/api/render", json=body, timeout=60) for _ in range(2)]
    first, second = answers
    assert first.headers["X-Release"] == "base"
    picture = Image.open(io.BytesIO(first.content))
    assert picture.size == (64, 64)
    assert first.content == second.content, "the same seed gives the same picture"
    deadline = time.monotonic() + 10
    while len(logged(shop)) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    line = next(entry for entry in logged(shop) if entry["request_id"] == first.headers["X-Request-Id"])
    assert line["prompt"] == "rings in adire_style for [removed]"
    assert "ada" not in line["session"]


@pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": "x", "steps": 0}, {"prompt": "x", "sed": 1}])
def test_a_bad_request_is_refused(shop: Stack, body: dict[str, object]) -> None:
    assert httpx.post(f"{shop.url('storefront')}/api/render", json=body, timeout=30).status_code == 422


def test_prometheus_reads_the_last_check(shop: Stack) -> None:
    url = f"{shop.url('storefront')}/metrics"
    assert httpx.get(url, timeout=30).status_code == 404
    (shop.home / "store/drift/adire").mkdir(parents=True, exist_ok=True)
    (shop.home / "store/drift/adire/metrics.prom").write_text('dyeworks_drift_psi{model="adire"} 0.1\n')
    answer = httpx.get(url, timeout=30)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.text == 'dyeworks_drift_psi{model="adire"} 0.1\n'


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine: apt-get install chromium")
def test_a_visitor_draws_a_cloth_in_the_browser(shop: Stack, tmp_path: Path) -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(shop.url("storefront"))
        page.locator("#prompt textarea").fill("large dots in adire_style")
        page.locator("#draw").click()
        page.locator("#says", has_text="Drawn by the bare base model").wait_for(timeout=60_000)
        shown = page.locator("#picture img")
        shown.wait_for()
        page.screenshot(path=tmp_path / "shop.png")
        assert shown.bounding_box() is not None
        browser.close()
