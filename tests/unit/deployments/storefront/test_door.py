"""The door: who a request counts as, what it is allowed, and how much of it."""

import re
from http.cookies import SimpleCookie
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from itsdangerous import TimestampSigner

from deployments.problems import Unauthorized
from deployments.storefront.door import COOKIE, YEAR, CookieSigner, Door
from deployments.storefront.sessions import SESSIONS
from tasks.core.access.keys import create_key, revoke_key
from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig
from tasks.core.errors import SettingError
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.page_client import call, wait_answer
from tests.unit.deployments.storefront.doors import (
    ELSEWHERE,
    HERE,
    LIMITLESS,
    ask,
    gradio_shop,
    shop,
    visitor_at,
)

MODELS: dict[str, ModelConfig | None] = {"adire": adire(), "": None}


def door_of(store: FolderStore, **settings: str) -> Door:
    """A door that has read the keys of a store."""
    door = Door(Settings.model_validate(LIMITLESS | settings))
    door.keys.refresh(store)
    return door


@pytest.fixture
def door(folder: FolderStore) -> Door:
    return door_of(folder)


@pytest.fixture
def client(door: Door) -> TestClient:
    return visitor_at(shop(door, MODELS))


def test_page_gives_a_visitor_one_session(client: TestClient) -> None:
    first = client.get("/shop/")
    (cookie,) = SimpleCookie(first.headers["set-cookie"]).values()
    assert (cookie.key, cookie["path"], cookie["samesite"], cookie["max-age"]) == (COOKIE, "/", "lax", str(YEAR))
    assert (cookie["httponly"], cookie["secure"], cookie["domain"]) == (True, "", "")
    assert first.headers["cache-control"] == "private"
    assert "set-cookie" not in client.get("/shop/").headers, "a valid cookie stays"
    session = ask(client)["session"]
    assert str(session).startswith("cookie ")
    assert ask(client)["session"] == session


def test_cookie_is_secure_behind_https_and_stays_below_a_proxys_prefix(door: Door) -> None:
    app = shop(door, MODELS)
    answer = TestClient(app, base_url="https://shop.example", root_path="/dye").get("/dye/shop/")
    (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert (cookie["secure"], cookie["path"]) == (True, "/dye")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/ask?model=adire&scope=render"), ("HEAD", "/shop/"), ("GET", "/no")]
)
def test_nothing_but_the_page_gives_a_cookie(method: str, path: str, client: TestClient) -> None:
    assert "set-cookie" not in client.request(method, path).headers


@pytest.mark.parametrize("forged", ["", "ada", "ada.abc.def", "x" * 4000, ".", "a.b"])
def test_forged_cookie_is_replaced_and_names_no_session(forged: str, door: Door) -> None:
    client = visitor_at(shop(door, MODELS), **{COOKIE: forged})
    assert str(ask(client)["session"]).startswith(f"address {HERE}")
    assert COOKIE in client.get("/shop/").headers["set-cookie"]


def test_cookie_of_another_key_another_purpose_or_an_earlier_year_is_not_valid(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Settings().session_key.get_secret_value()
    good = door.cookies.issue()
    others = [CookieSigner("another").issue(), TimestampSigner(key, salt="other").sign("ada").decode()]
    assert door.cookies.read({"cookie": f"a=b; {COOKIE}={good}"}) == good.partition(".")[0]
    assert [door.cookies.read({"cookie": f"{COOKIE}={value}"}) for value in others] == ["", ""]
    assert CookieSigner(key).read({"cookie": f"{COOKIE}={good}"}), "it outlives the process"
    later = int(door.cookies.signer.get_timestamp()) + YEAR + 1
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _: later)
    assert door.cookies.read({"cookie": f"{COOKIE}={good}"}) == ""


def test_user_counts_only_with_a_key_or_from_a_trusted_address(folder: FolderStore) -> None:
    (text, key), (other, second) = (create_key(folder, "visitor", name) for name in ("shop", "kiosk"))
    app = shop(door_of(folder, trusted_addresses=ELSEWHERE), MODELS)
    anonymous = ask(visitor_at(app), user="ada")
    assert (anonymous["voter"], anonymous["trusted"]) == (f"address {HERE}", False)
    assert "ada" not in str(anonymous["session"])
    backend = ask(visitor_at(app, ELSEWHERE), user="ada")
    assert (backend["session"], backend["voter"], backend["trusted"]) == ("ada", "ada", True)
    sessions = [ask(visitor_at(app, HERE, one), user=user) for one in (text, other) for user in ("ada", "bob")]
    assert [found["session"] for found in sessions] == [
        f"key {one.id} {user}" for one in (key, second) for user in ("ada", "bob")
    ]
    assert [found["voter"] for found in sessions] == [found["session"] for found in sessions]
    assert sessions[0]["key"] == "shop"


def test_key_without_user_is_one_voter_apart_from_its_address(folder: FolderStore) -> None:
    text, key = create_key(folder, "visitor", "shop")
    app = shop(door_of(folder), MODELS)
    found = [ask(visitor_at(app, address, text)) for address in (HERE, ELSEWHERE)]
    assert {one["voter"] for one in found} == {f"key {key.id}"}
    assert [
        str(one["session"]).startswith(f"key {key.id} address {a}")
        for one, a in zip(found, (HERE, ELSEWHERE), strict=True)
    ]
    assert ask(visitor_at(app))["session"] not in {one["session"] for one in found}


def test_cookie_beside_a_key_names_no_session(folder: FolderStore) -> None:
    text, key = create_key(folder, "visitor", "shop")
    door = door_of(folder)
    client = visitor_at(shop(door, MODELS), HERE, text, **{COOKIE: door.cookies.issue()})
    assert str(ask(client)["session"]).startswith(f"key {key.id} address")


def test_an_address_has_few_new_sessions(door: Door) -> None:
    app = shop(door, MODELS)
    found = {str(ask(visitor_at(app, HERE, **{COOKIE: door.cookies.issue()}))["session"]) for _ in range(50)}
    assert len(found) == SESSIONS + 1
    assert f"address {HERE}" in found
    assert ask(visitor_at(app, ELSEWHERE, **{COOKIE: door.cookies.issue()}))["session"] not in found


def test_an_ipv6_network_is_one_address(door: Door) -> None:
    app = shop(door, MODELS)
    found = [ask(visitor_at(app, f"2001:db8:1:2::{i:x}", **{COOKIE: door.cookies.issue()})) for i in range(1, 30)]
    assert {one["voter"] for one in found} == {"address 2001:db8:1:2::/64"}
    assert len({str(one["session"]) for one in found}) == SESSIONS + 1


def test_reading_takes_no_session(door: Door) -> None:
    client = visitor_at(shop(door, MODELS))
    for scope in ("read", "metrics"):
        assert ask(client, "", scope)["session"] == ""
    assert not door.sessions.clients


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "Negotiate"])
def test_other_schemes_are_for_a_proxy(scheme: str, client: TestClient) -> None:
    client.headers["Authorization"] = f"{scheme} YWRhOnNlY3JldA=="
    assert ask(client)["key"] == ""


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer ", "bearer x", "BEARER  dyw_admin_1", "Bearer\tx y", "dyw_admin_1", "Token dyw_admin_1"]
)
def test_wrong_key_is_refused_where_none_is_needed(value: str, client: TestClient) -> None:
    client.headers["Authorization"] = value
    answer = client.get("/ask", params={"model": "adire", "scope": "render"})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="dyeworks", error="invalid_token"'
    assert "dyw_admin_1" not in answer.text


def test_refusals_say_what_is_needed(folder: FolderStore) -> None:
    (viewer, _), (other, _) = create_key(folder, "viewer", "wall"), create_key(folder, "visitor", "kiosk", ["indigo"])
    app = shop(door_of(folder), {"adire": adire(serving={"api": "key"})})
    params = {"model": "adire", "scope": "render"}
    answers = [visitor_at(app, HERE, key).get("/ask", params=params) for key in ("", viewer, other)]
    assert [answer.status_code for answer in answers] == [401, 403, 403]
    assert [answer.json()["detail"] for answer in answers] == [
        "model 'adire' needs an API key; send a valid key as `Authorization: Bearer dyw_...`",
        "the API key 'wall' has the role viewer, which lacks the scope 'render'; ask the operator for one that may",
        "the API key 'kiosk' is not for model 'adire'; ask the operator for one that may",
    ]
    insufficient = 'Bearer realm="dyeworks", error="insufficient_scope", scope="render"'
    assert [answer.headers["WWW-Authenticate"] for answer in answers] == [
        *('Bearer realm="dyeworks"', insufficient, insufficient),
    ]


def test_key_is_refused_with_a_503_until_the_store_was_read(folder: FolderStore) -> None:
    text, _ = create_key(folder, "visitor", "shop")
    door = Door(Settings())
    client = visitor_at(shop(door, MODELS), HERE, text)
    assert client.get("/ask", params={"model": "adire", "scope": "render"}).status_code == 503
    assert ask(visitor_at(shop(door, MODELS)))["key"] == "", "without a key, what is open is served"
    door.keys.refresh(folder)
    assert ask(client)["key"] == "shop"
    revoke_key(folder, "shop")
    door.keys.refresh(folder)
    assert client.get("/ask", params={"model": "adire", "scope": "render"}).status_code == 401


def status(client: TestClient, pictures: int, user: str = "", scope: str = "render") -> int:
    params: dict[str, str | int] = {"model": "adire", "scope": scope, "user": user, "pictures": pictures}
    return client.get("/ask", params=params).status_code


def test_address_and_session_have_limits_without_a_key(folder: FolderStore) -> None:
    door = door_of(folder, limit_address="6/day", limit_session="4/day")
    app = shop(door, MODELS)
    ada, bob = (visitor_at(app, HERE, **{COOKIE: door.cookies.issue()}) for _ in "ab")
    assert [status(ada, 4), status(ada, 1), status(bob, 3), status(bob, 2)] == [200, 429, 429, 200]
    exceeded = bob.get("/ask", params={"model": "adire", "scope": "render", "pictures": 1})
    assert int(exceeded.headers["Retry-After"]) > 0
    assert "this address may have 6 pictures in day" in exceeded.json()["detail"]
    assert status(bob, 0, scope="vote") == 200
    assert status(visitor_at(app, ELSEWHERE), 4) == 200
    assert status(visitor_at(app, ELSEWHERE), 1) == 429, "without a cookie the address is the session"


def test_key_has_its_own_limit_and_its_users_theirs(folder: FolderStore) -> None:
    text, _ = create_key(folder, "visitor", "shop")
    app = shop(door_of(folder, limit_key="6/day", limit_address="1/day", limit_session="2/day"), MODELS)
    first, second = visitor_at(app, HERE, text), visitor_at(app, ELSEWHERE, text)
    assert [status(first, 2, "ada"), status(second, 1, "ada"), status(second, 2, "bob")] == [200, 429, 200]
    assert [status(first, 2), status(second, 1)] == [200, 429]


def test_trusted_address_has_no_limit_but_its_sessions_have(folder: FolderStore) -> None:
    app = shop(door_of(folder, trusted_addresses=HERE, limit_address="1/day", limit_session="2/day"), MODELS)
    backend = visitor_at(app)
    assert [status(backend, 2, "ada"), status(backend, 1, "ada"), status(backend, 2, "bob")] == [200, 429, 200]
    assert [status(backend, 50), status(backend, 50)] == [200, 200]


@pytest.mark.parametrize("name", ["limit_key", "limit_address", "limit_session", "trusted_addresses"])
def test_bad_setting_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(SettingError, match=f"DYEWORKS_{name.upper()}"):
        Door(Settings.model_validate({name: "many"}))


HEADER = st.text(st.characters(max_codepoint=255), max_size=60)


@hypothesis_settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(authorization=HEADER, cookie=HEADER, user=st.text(max_size=20), host=st.text(max_size=20))
def test_no_header_causes_another_error(authorization: str, cookie: str, user: str, host: str, door: Door) -> None:
    http = SimpleNamespace(
        headers={"authorization": authorization, "cookie": f"{COOKIE}={cookie}"}, client=SimpleNamespace(host=host)
    )
    try:
        assert door.admit(http, MODELS["adire"], "render", user).key is None
    except Unauthorized:
        assert re.search("bearer|dyw_", authorization, re.IGNORECASE)


def test_page_of_gradio_goes_through_the_same_door(folder: FolderStore) -> None:
    """With Gradio's own request: its cookies, its client, its key."""
    (text, _), (viewer, _) = create_key(folder, "visitor", "shop"), create_key(folder, "viewer", "wall")
    app = gradio_shop(door_of(folder, limit_session="2/day"), adire(serving={"api": "key"}))
    with visitor_at(app) as client:
        client.get("/shop/")
        answers = []
        for number in range(3):
            assert call(client, ["ada"], f"tab{number}")[0] == 200
            answers.append(wait_answer(client, f"tab{number}"))
        sessions = [answer["data"][0].split("|") for answer in answers[:2]]
        assert sessions[0] == sessions[1]
        assert (sessions[0][0][:7], sessions[0][1:]) == ("cookie ", [f"address {HERE}", HERE])
        assert answers[2].get("error") is not None or "data" not in answers[2]
        routes = ("/shop/", "/shop/config", "/shop/gradio_api/info")
        found = {
            key: [client.get(route, headers={"Authorization": f"Bearer {key}"}).status_code for route in routes]
            for key in (text, viewer, "dyw_visitor_wrong")
        }
        assert found == {text: [200] * 3, viewer: [401] * 3, "dyw_visitor_wrong": [401] * 3}
        client.headers["Authorization"] = "Bearer dyw_visitor_wrong"
        assert call(client, ["ada"], "tab9")[0] == 401
