"""The API as OpenAI's own client uses it, against a real server: pictures, errors, retries, votes."""

import inspect
import io
import json
import re
import time
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from openai.resources.images import Images
from PIL import Image

from deployments.storefront.bodies import ImageRequest
from deployments.storefront.errors import QueueFull
from tasks.core.config.installation import ROOT
from tests.unit.deployments.storefront.running import Shop, running

REFUSED: dict[str, object] = {  # fields of OpenAI's API that would change nothing here, by a value that asks for it
    "response_format": "url",
    "quality": "high",
    "background": "transparent",
    "moderation": "low",
    "style": "vivid",
    "partial_images": 2,
    "output_compression": 0,
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with running(tmp_path_factory.mktemp("shop")) as shop:
        time.sleep(1)  # until the old key has expired
        yield shop


def picture(data: str | None) -> Image.Image:
    return Image.open(io.BytesIO(b64decode(data or "")))


def test_pictures_of_a_prompt(shop: Shop) -> None:
    prompt = "rings in adire_style for me@example.com"
    with shop.client() as client:
        made = client.images.generate(prompt=prompt, model="adire", n=2, user="wole", extra_body={"seed": 7})
        again = client.images.generate(prompt=prompt, model="adire", extra_body={"seed": 8})
    assert (made.size, made.output_format, made.background) == ("64x64", "png", "opaque")
    first, second = (entry.to_dict() for entry in made.data or [])
    assert (first["seed"], second["seed"]) == (7, 8)
    assert (first["model"], first["release"], first["generation"]) == ("adire", "base", 0)
    assert picture(str(first["b64_json"])).size == (64, 64)
    one, other = (np.asarray(picture(str(data)), int) for data in (second["b64_json"], (again.data or [])[0].b64_json))
    assert abs(one - other).max() <= 1, "alone and in a batch"
    assert str(first["id"]).removesuffix("-0") == made._request_id
    line = shop.line(str(second["id"]))
    assert (line["prompt"], line["picture"], line["seed"]) == ("rings in adire_style for [email]", 1, 8)
    assert "wole" not in json.dumps(line), "the session is a hash"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_files_say_what_made_them(shop: Shop, kind: Any) -> None:
    with shop.client() as client:
        made = client.images.generate(prompt="rings", model="gpt-image-1", output_format=kind, size="auto")
    entry = (made.data or [])[0]
    shown = picture(entry.b64_json)
    assert shown.format == kind.upper()
    raw = b64decode(entry.b64_json or "")
    assert b"trainedAlgorithmicMedia" in raw
    assert str(entry.to_dict()["id"]).encode() in raw


def test_fields_of_our_own(shop: Shop) -> None:
    own = {"seed": 1, "steps": 3, "guidance": 1.5, "negative_prompt": "dots"}
    with shop.client() as client:
        made = client.images.generate(prompt="rings", model="adire-base", size="96x64", extra_body=own)
        usual = client.images.generate(prompt="rings", model="adire-base", size="96x64", extra_body={"seed": 1})
    shown = picture((made.data or [])[0].b64_json)
    assert (shown.size, made.size) == ((96, 64), "96x64")
    assert shown.tobytes() != picture((usual.data or [])[0].b64_json).tobytes()
    line = shop.line(str((made.data or [])[0].to_dict()["id"]))
    assert (line["steps"], line["adapter"]) == (3, "")


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_not_served_is_refused_by_name(shop: Shop, field: str) -> None:
    with shop.client() as client, pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="rings", model="adire", extra_body={field: REFUSED[field]})
    assert (refused.value.param, refused.value.type, refused.value.code) == (
        field,
        "invalid_request_error",
        "invalid_value",
    )
    assert refused.value.request_id


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stream": True}, "stream"),
        ({"size": "1024x1024"}, "size"),
        ({"size": "wide"}, "size"),
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"steps": 21}, "steps"),
        ({"guidance": 0.5}, "guidance"),
        ({"seed": -1}, "seed"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 401}, "prompt"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"output_compression": 50}, "output_compression"),
    ],
)
def test_values_that_can_not_be_served(shop: Shop, body: dict[str, object], param: str) -> None:
    answer = httpx.post(f"{shop.url}/v1/images/generations", json={"prompt": "rings", "model": "adire"} | body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert answer.json()["detail"].startswith(f"{param}: ")


def test_the_guide_says_what_each_field_does() -> None:
    guide = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    table = guide[guide.index("| field | what it does |") : guide.index("A field that is not in this table")]
    named = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:] if row)))
    of_client = set(inspect.signature(Images.generate).parameters)
    transport = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}
    assert named == (of_client - transport) | set(ImageRequest.model_fields)


@pytest.mark.parametrize("field", sorted(set(inspect.signature(Images.generate).parameters) - {"self", "timeout"}))
def test_every_field_of_the_client_is_served_or_refused(shop: Shop, field: str) -> None:
    """A value that no version knows is refused by the field's name."""
    answer = httpx.post(f"{shop.url}/v1/images/generations", json={"prompt": "rings", field: {"no": "such"}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


def test_models(shop: Shop) -> None:
    with shop.client() as client:
        assert [model.id for model in client.models.list()] == ["adire", "adire-base", "closed", "closed-base"]
        assert client.models.retrieve("adire-base").to_dict()["release"] == "base"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("dall-e-3")
    with shop.client("closed") as client:
        assert [model.id for model in client.models.list()] == ["closed", "closed-base"]
        with pytest.raises(openai.NotFoundError) as unknown:
            client.images.generate(prompt="rings", model="dall-e-3")
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError, match="name one of adire, closed"):
            client.images.generate(prompt="rings")


def test_clients_retry_when_they_must_wait(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenAI's client does by itself; the log has its count, and the picture counts once as demand."""
    engine = shop.app.state.storefront.opened.engine
    require_room, refusals = engine.require_room, [QueueFull(512, 0.2), QueueFull(512, 300.0)]

    def crowded(model: str, number: int) -> None:
        if refusals:
            raise refusals.pop(0)
        require_room(model, number)

    monkeypatch.setattr(engine, "require_room", crowded)
    with shop.client(max_retries=2) as client:
        waited: list[float] = []
        monkeypatch.setattr(client, "_sleep_for_retry", lambda **about: waited.append(_wait_of(about)))
        made = client.images.generate(prompt="rings", model="adire")
    assert waited == [1.0, 119.0], "seconds of Retry-After, which clients ignore above 120"
    assert shop.line(str((made.data or [])[0].to_dict()["id"]))["retry"] == 2


def _wait_of(about: dict[str, Any]) -> float:
    return float(about["response"].headers["retry-after"])


def test_a_full_queue_is_a_429_of_the_client(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = shop.app.state.storefront.opened.engine

    def full(*_: object) -> None:
        raise QueueFull(512, 40.0)

    monkeypatch.setattr(engine, "require_room", full)
    with shop.client(max_retries=0) as client, pytest.raises(openai.RateLimitError) as refused:
        client.images.generate(prompt="rings", model="adire")
    assert (refused.value.code, refused.value.response.headers["retry-after"]) == ("queue_full", "40")


def test_votes(shop: Shop) -> None:
    with shop.client() as client:
        made = client.images.generate(prompt="rings", model="adire")
    name = str((made.data or [])[0].to_dict()["id"])
    url = f"{shop.url}/v1/images/feedback"
    assert httpx.post(url, json={"id": name, "liked": True}).status_code == 204
    unknown = httpx.post(url, json={"id": "another's", "liked": True})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "picture_not_found")
    assert httpx.post(url, json={"id": name, "liked": "maybe"}).json()["error"]["param"] == "liked"


STATUS = {  # by key and model
    ("", "adire"): 200,
    ("", "closed"): 401,
    ("none", "adire"): 200,
    ("none", "closed"): 401,
    ("visitor", "adire"): 200,
    ("visitor", "closed"): 200,
    ("viewer", "adire"): 403,
    ("viewer", "closed"): 403,
    ("closed", "adire"): 403,
    ("closed", "closed"): 200,
    ("old", "adire"): 401,
    ("dyw_visitor_forged", "adire"): 401,
    ("sk-of-openai", "closed"): 401,
}


@pytest.mark.parametrize(("key", "model"), STATUS)
def test_who_may_render(shop: Shop, key: str, model: str) -> None:
    headers = {"Authorization": f"Bearer {shop.keys.get(key, key)}"} if key else {}
    body = {"prompt": "rings", "model": model}
    answer = httpx.post(f"{shop.url}/v1/images/generations", json=body, headers=headers, timeout=60)
    assert answer.status_code == STATUS[key, model], answer.text
    if answer.status_code in (401, 403):
        assert answer.headers["www-authenticate"].startswith("Bearer realm=")
        assert answer.json()["error"]["type"] in ("authentication_error", "permission_error")


@pytest.mark.parametrize(
    ("key", "route", "status"),
    [
        ("", "/v1/models", 200),
        ("viewer", "/v1/models", 200),
        ("old", "/v1/models", 401),
        ("", "/metrics", 200),
        ("viewer", "/metrics", 200),
        ("visitor", "/metrics", 403),
        ("", "/livez", 200),
        ("", "/readyz", 200),
        ("", "/shop/", 200),
        ("", "/shop/config", 200),
        ("viewer", "/shop/config", 401),
        ("old", "/shop/config", 401),
        ("visitor", "/shop/config", 200),
        ("", "/nowhere", 404),
    ],
)
def test_who_may_read(shop: Shop, key: str, route: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {shop.keys[key]}"} if key else {}
    answer = httpx.get(f"{shop.url}{route}", headers=headers)
    assert answer.status_code == status
    assert len(answer.headers["x-request-id"]) == 32
