"""The storefront restarts while the store is away: with what it served last, and not at all without a copy."""

import io
import shutil
import time
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.e2e.crowd import PROBLEM, ROUTE
from tests.e2e.shops import logged, wait_for
from tests.e2e.storm import MODELS, Storm

pytestmark = pytest.mark.e2e
FIRST = MODELS[0]


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    """A storefront that has served a release of one of its models, and has stopped."""
    place = tmp_path_factory.mktemp("restart")
    storm = Storm(place / "home", place / "disk")
    for model in MODELS[:2]:  # the third has no champion yet
        storm.publish(model)
    try:
        storm.start()
        yield storm
    finally:
        storm.stack.stop()


def ask(storm: Storm, **other: object) -> httpx.Response:
    body = {"model": FIRST, "prompt": "rings", "seed": 5} | other
    return httpx.post(storm.url + ROUTE, json=body, timeout=60)


def draw(storm: Storm) -> tuple[dict[str, Any], bytes]:
    """A picture's description, and its pixels."""
    drawn = dict(ask(storm).raise_for_status().json()["data"][0])
    return drawn, Image.open(io.BytesIO(b64decode(drawn.pop("b64_json")))).tobytes()


def stop(storm: Storm) -> None:
    process = storm.stack.processes["storefront"]
    process.terminate()
    process.wait(60)


def test_a_restart_while_the_store_is_away_serves_the_last_release(storm: Storm) -> None:
    release, (before, pixels) = storm.releases[FIRST][0], draw(storm)
    stop(storm)
    with storm.store_away():
        storm.stack.start_storefront()
        storm.stack.wait("storefront", "/readyz")
        wait_for(lambda: all(storm.health(name)["release"] for name in MODELS[:2]), "the last releases are served")
        assert storm.health(MODELS[2])["status"] == "unavailable", "the base without an adapter is no last release"
        after, again = draw(storm)
        assert (after["release"], after["generation"], again) == (release, 1, pixels)
        wait_for(lambda: "the store cannot be read" in storm.reason(FIRST), "it says so")
        refused = ask(storm, model=f"{FIRST}@2")
        assert (refused.status_code, refused.headers["content-type"]) == (404, PROBLEM)
    wait_for(lambda: {storm.health(name).get("status") for name in MODELS} == {"ok"}, "the store is read again")
    wanted = {before["id"], after["id"]}
    wait_for(lambda: wanted <= {line["request_id"] for line in logged(storm.stack)}, "both pictures are logged")
    storm.switch(FIRST)


def test_without_a_copy_it_is_not_ready_until_the_store_is_back(storm: Storm) -> None:
    stop(storm)
    shutil.rmtree(storm.disk / "cache")
    with storm.store_away():
        storm.stack.start_storefront()
        storm.stack.wait("storefront", "/livez")
        deadline = time.monotonic() + 10  # in which the base is loaded otherwise
        while time.monotonic() < deadline:
            ready = httpx.get(f"{storm.url}/readyz", timeout=60)
            assert (ready.status_code, ready.headers["content-type"]) == (503, PROBLEM)
            time.sleep(0.5)
        refused = ask(storm)
        assert (refused.status_code, refused.headers["content-type"]) == (503, PROBLEM)
        assert "the store cannot be opened" in refused.json()["detail"]
    wait_for(lambda: storm.health(FIRST).get("status") == "ok", "the store is read")
    assert draw(storm)[0]["release"] == storm.releases[FIRST][-1]
