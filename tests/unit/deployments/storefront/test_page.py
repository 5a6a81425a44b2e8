"""The storefront's page: what it offers, draws, votes, and says when there is no picture."""

import io
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from deployments.problems import Forbidden, Unauthorized
from deployments.storefront.app import create_app
from deployments.storefront.bodies import LONGEST
from deployments.storefront.catalogue import Catalogue, read_catalogue
from deployments.storefront.errors import (
    FieldInvalid,
    ModelNotFound,
    PicturesFlagged,
    PictureUnknown,
    QueueFull,
    ReleaseUnavailable,
    RenderUnavailable,
    VotesExhausted,
)
from deployments.storefront.offers import KEY_NEEDED, OPENING
from deployments.storefront.page import CSS, HTML, SCRIPT, SESSIONS, IdleFirst
from deployments.storefront.page_words import words
from tasks.core.access.errors import LimitExceeded
from tasks.core.config.installation import Settings
from tasks.core.errors import DyeworksError
from tasks.core.registry.ledger import Entry, append
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.page_client import DRAW, VOTE, call, visit, wait_answer
from tests.unit.deployments.storefront.releases import wait_until

JOIN = "/shop/gradio_api/queue/join"
DRAWN = ["adire", "rings", "", 1, "", 7]  # a call that draws


def storefront(folder: Path, *models: Mapping[str, object], **values: object) -> Iterator[TestClient]:
    """A storefront of the example model in variants, that can draw."""
    for model in models:
        apply_config(FolderStore(folder), adire(**model))
    local = Settings(store=str(folder), device="cpu").model_copy(
        update={"limit_address": "", "limit_session": "", "cache": folder.parent / "cache", **values}
    )
    with TestClient(create_app(local), base_url="http://127.0.0.1") as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    closed = {"name": "batik", "trigger": "batik_style", "serving": {"page": False, "steps": 1}}
    quick = {"serving": {"steps": 1, "sizes": ("64x64", "64x96")}}
    yield from storefront(tmp_path_factory.mktemp("page") / "store", quick, closed)


def asked(client: TestClient, data: list[object], function: int = DRAW) -> dict[str, Any]:
    """The answer to a call."""
    session = uuid4().hex
    assert call(client, data, session, function)[0] == 200
    found: dict[str, Any] = wait_answer(client, session)["data"][0]
    return found


def opened(picture: dict[str, Any]) -> Image.Image:
    kind, _, data = picture["file"].partition(";base64,")
    assert kind == f"data:image/{picture['kind']}"
    return Image.open(io.BytesIO(b64decode(data)))


def test_offers_are_those_of_models_that_the_page_may_draw_with(shop: TestClient) -> None:
    offers = shop.get("/shop/offers").json()
    (model,) = offers["models"]
    assert (offers["problem"], model["name"], model["generation"]) == ("", "adire", 0)
    assert model["sizes"] == ["64x64", "64x96"]
    assert len(model["examples"]) == 5
    assert all("adire_style" in example for example in model["examples"])
    assert [each["name"] for each in model["generations"]] == ["adire-base"]


def test_offers_follow_the_ledger(shop: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    served = shop.app.state.storefront.opened.models["adire"]  # type: ignore[attr-defined]
    day = datetime(2026, 3, 20, tzinfo=UTC)
    catalogue = Catalogue({1: "a", 2: "", 3: "b"}, dict.fromkeys((1, 2, 3), day), {1: "it was first", 3: "better"})
    monkeypatch.setattr(served, "catalogue", catalogue)
    generations = shop.get("/shop/offers").json()["models"][0]["generations"]
    assert [(each["name"], each["promoted"], each["reason"]) for each in generations] == [
        ("adire@3", "2026-03-20", "better"),
        ("adire@1", "2026-03-20", "it was first"),
        ("adire-base", "", ""),
    ]


def test_catalogue_has_the_reason_of_each_generation(folder: FolderStore) -> None:
    for generation, reason in enumerate(("it was first", "better"), 1):
        entry = Entry(
            generation=generation,
            action="promote",
            release=f"r{generation}",
            dataset_version="v",
            actor="gate",
            reason=reason,
            time=datetime(2026, 1, generation, tzinfo=UTC),
        )
        append(folder, "adire", entry)
    assert read_catalogue(folder, "adire", None).reasons == {1: "it was first", 2: "better"}


def test_page_is_shown_before_anything_can_be_drawn(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no folder")
    local = Settings(store=str(tmp_path / "store"), device="cpu")
    with TestClient(create_app(local), base_url="http://127.0.0.1") as client:
        assert client.get("/shop/").status_code == 200
        offers = client.get("/shop/offers").json()
        assert (offers["models"], offers["problem"]) == ([], OPENING)
        assert "Nothing can be drawn at the moment" in visit(client, "rings")["problem"]


def test_several_pictures_each_with_its_marks(shop: TestClient) -> None:
    pictures = asked(shop, ["adire", "rings", "dots", 3, "64x96", 7])["pictures"]
    assert [picture["seed"] for picture in pictures] == [7, 8, 9]
    assert len({picture["id"] for picture in pictures}) == 3
    for picture in pictures:
        image = opened(picture)
        assert (image.size, picture["width"], picture["height"]) == ((64, 96), 64, 96)
        assert (picture["model"], picture["generation"], picture["kind"]) == ("adire", 0, "png")
        assert picture["id"] in str(image.info["XML:com.adobe.xmp"])


def test_same_seed_gives_the_same_picture_by_any_name_of_the_base(shop: TestClient) -> None:
    first, second = (asked(shop, [name, *DRAWN[1:]])["pictures"][0] for name in ("adire", "adire-base"))
    assert opened(first).tobytes() == opened(second).tobytes()


def test_vote_on_a_picture_and_changing_it(shop: TestClient) -> None:
    (picture,) = asked(shop, DRAWN)["pictures"]
    assert asked(shop, [picture["id"], True], VOTE) == {"liked": True}
    assert asked(shop, [picture["id"], False], VOTE) == {"liked": False}
    assert "too old to vote on" in asked(shop, ["another's", True], VOTE)["problem"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (["adire", "x" * (LONGEST + 1), "", 1, "", 7], "it has 401 characters, and at most 400 are read"),
        (["adire", "rings", "x" * (LONGEST + 1), 1, "", 7], "it has 401 characters, and at most 400 are read"),
        (["adire", " ", "", 1, "", 7], "Describe what the picture should show."),
        (["adire", "rings", "", 1, "8x8", 7], "size: adire draws auto, 64x64, 64x96"),
        (["adire@9", "rings", "", 1, "", 7], "no longer offered here"),
        (["gone", "rings", "", 1, "", 7], "no longer offered here"),
        (["batik", "rings", "", 1, "", 7], "needs an API key"),
    ],
)
def test_page_says_in_words_why_nothing_is_drawn(shop: TestClient, data: list[object], says: str) -> None:
    assert says in asked(shop, data)["problem"]


@pytest.mark.parametrize(
    ("function", "data"),
    [
        (DRAW, DRAWN[:-1]),
        (DRAW, [*DRAWN, "more"]),
        (DRAW, [None, *DRAWN[1:]]),
        (DRAW, ["../adire", *DRAWN[1:]]),
        (DRAW, ["adire", "x" * 10_001, *DRAWN[2:]]),
        (DRAW, ["adire", "rings", None, 1, "", 7]),
        *((DRAW, ["adire", "rings", "", pictures, "", 7]) for pictures in (0, 5, 1.5, True, "1", None)),
        *((DRAW, ["adire", "rings", "", 1, size, 7]) for size in ("big", "64x64x64", "99999x1", None)),
        *((DRAW, ["adire", "rings", "", 1, "", seed]) for seed in (-1, 2**32 - 10, 0.5, "7", True)),
        (VOTE, ["id"]),
        (VOTE, ["id", None]),
        (VOTE, ["id", 1]),
        (VOTE, ["x" * 101, True]),
        (VOTE, DRAWN),
        (2, ["id", True]),
    ],
)
def test_call_that_the_page_would_not_make_is_refused(shop: TestClient, function: int, data: list[object]) -> None:
    assert call(shop, data, "visitor", function)[0] == 422


def test_session_with_unread_responses_is_limited(shop: TestClient) -> None:
    found = [call(shop, ["x", True], "deaf", VOTE)[0] for _ in range(8)]
    assert found == [200] * 5 + [429] * 3


def test_visitor_over_the_limit_is_told_when_to_go_on(tmp_path: Path) -> None:
    for client in storefront(tmp_path / "store", {"serving": {"steps": 1}}, limit_address="2/year"):
        said = asked(client, ["adire", "rings", "", 3, "", None])["problem"]
        assert re.search(r"You can go on in \d+ minutes, or ask for fewer pictures at once", said), said
        assert len(asked(client, ["adire", "rings", "", 2, "", None])["pictures"]) == 2
        assert "You have drawn a lot in a short time" in asked(client, DRAWN)["problem"]


def test_storefront_whose_models_all_need_a_key_says_so(tmp_path: Path) -> None:
    for client in storefront(tmp_path / "store", {"serving": {"page": False}}):
        assert client.get("/shop/offers").json()["problem"] == KEY_NEEDED
        assert client.get("/shop/offers", headers={"Authorization": "Bearer dyw_wrong"}).status_code == 401


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RenderUnavailable("the base model is loading"), "Nothing can be drawn at the moment: the base model is load"),
        (QueueFull(512, 17.2), "try again in 18 seconds"),
        (LimitExceeded("address", "60 per 1 minute", 1, 1), "You can go on in 1 second."),
        (Unauthorized("model 'a' needs an API key"), "needs an API key, which this page cannot send"),
        (Forbidden("shop", "is not for model 'a'", "render"), "is not for this"),
        (PicturesFlagged(), "The safety check has kept back all of these pictures"),
        (ModelNotFound("a", "b"), "no longer offered"),
        (ReleaseUnavailable("a@1", "it is no LoRA"), "can't be loaded at the moment"),
        (FieldInvalid("size", "a draws auto"), "That can't be drawn; size: a draws auto."),
        (PictureUnknown("x"), "too old to vote on"),
        (VotesExhausted("x"), "the last one counts"),
        (DyeworksError("as it is"), "as it is"),
    ],
)
def test_every_error_has_plain_words(error: DyeworksError, says: str) -> None:
    assert says in words(error)


def test_page_needs_nothing_from_elsewhere() -> None:
    """No address of another server, and every element that the script names is in the markup."""
    addresses = re.findall(r"https?://[^\s'\"<]+", HTML + CSS + SCRIPT)
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}
    assert set(re.findall(r'\$\("([\w-]+)"\)', SCRIPT)) <= set(re.findall(r'id="([\w-]+)"', HTML))
    assert "${" not in HTML, "Gradio would evaluate it"
    assert "{{" not in HTML, "Gradio would evaluate it"


def test_sessions_that_wait_are_never_forgotten() -> None:
    """Gradio's own cache forgets the oldest even while it waits, and the KeyError that follows stops its queue."""
    events: IdleFirst[set[str]] = IdleFirst(lambda session: not events.get(session), set)
    events["waits"] = {"event"}
    for number in range(2 * SESSIONS):
        events[f"idle {number}"] = set()
    assert len(events) == SESSIONS
    assert events["waits"] == {"event"}
    assert (events["forgotten"], "forgotten" in events) == (set(), False)
