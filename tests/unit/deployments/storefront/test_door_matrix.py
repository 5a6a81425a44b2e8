"""Every kind of key, with every scope, at every kind of model, through the API and through the page."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from fastapi import FastAPI

from deployments.storefront.door import Door
from tasks.core.access.keys import create_key, revoke_key
from tasks.core.access.roles import Role, Scope
from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.unit.deployments.storefront.doors import HERE, LIMITLESS, shop, visitor_at

SCOPES: tuple[Scope, ...] = tuple(scope for scope in get_args(Scope) if scope != "upload")  # that is the gateway's
OPENNESS = {"both": (True, "open"), "api": (False, "open"), "page": (True, "key"), "neither": (False, "key")}
MODELS: dict[str, ModelConfig | None] = {
    name: adire(name=name, serving={"page": page, "api": api}) for name, (page, api) in OPENNESS.items()
}
MODELS["none"] = None  # a request that is about no single model

ANYBODY = {  # the statuses of render, vote, read, metrics without a key: through the API, and through the page
    "both": ("200 200 200 200", "200 200 200 200"),
    "api": ("200 200 200 200", "401 401 401 401"),
    "page": ("401 401 401 401", "200 200 200 200"),
    "neither": ("401 401 401 401", "401 401 401 401"),
    "none": ("401 401 200 200", "401 401 200 200"),
}
KEYS: dict[Role, str] = {  # with a key, whatever is open
    "visitor": "200 200 200 403",
    "viewer": "403 403 200 200",
    "operator": "200 200 200 200",
    "releaser": "403 403 200 200",
    "admin": "200 200 200 200",
    "ingest": "403 403 403 403",
}
INVALID = ("revoked", "expired", "foreign", "mistyped", "short", "long", "of-a-later-role")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The texts of keys: of each role for all models, for one, and for another one; and invalid ones."""
    folder = tmp_path_factory.mktemp("keys")
    store, past = FolderStore(folder / "store"), datetime(2026, 1, 1, tzinfo=UTC)
    found = {
        f"{role} {models}": create_key(store, role, f"{role}-{models}", listed)[0]
        for role, (models, listed) in product(get_args(Role), (("all", ()), ("neither", ("neither",))))
    }
    found["revoked"] = create_key(store, "admin", "revoked")[0]
    revoke_key(store, "revoked")
    found["expired"] = create_key(store, "admin", "expired", expires=past)[0]
    found["foreign"] = create_key(FolderStore(folder / "another"), "admin", "foreign")[0]
    good = found["admin all"]
    found |= {"mistyped": good[:-1] + ("a" if good[-1] != "a" else "b"), "short": good[:-1], "long": good + "0"}
    found["of-a-later-role"] = good.replace("admin", "curator")
    return found


@pytest.fixture(scope="module")
def app(texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    door = Door(Settings.model_validate(LIMITLESS))
    door.keys.refresh(FolderStore(_store(tmp_path_factory)))
    return shop(door, MODELS)


def _store(factory: pytest.TempPathFactory) -> Path:
    return next(factory.getbasetemp().glob("keys*/store"))


def asked(app: FastAPI, key: str, page: bool) -> dict[tuple[str, Scope], int]:
    """The status of each scope at each model."""
    client = visitor_at(app, HERE, key)
    return {
        (model, scope): client.get("/ask", params={"model": model, "scope": scope, "page": page}).status_code
        for model, scope in product(MODELS, SCOPES)
    }


def statuses(rows: dict[str, str]) -> Iterator[tuple[tuple[str, Scope], int]]:
    for model, row in rows.items():
        yield from (((model, scope), int(code)) for scope, code in zip(SCOPES, row.split(), strict=True))


@pytest.mark.parametrize("page", [False, True])
def test_without_a_key_the_model_decides(page: bool, app: FastAPI) -> None:
    assert asked(app, "", page) == dict(statuses({model: rows[page] for model, rows in ANYBODY.items()}))


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize("role", KEYS)
def test_a_key_decides_by_its_role(role: Role, page: bool, app: FastAPI, texts: dict[str, str]) -> None:
    assert asked(app, texts[f"{role} all"], page) == dict(statuses(dict.fromkeys(MODELS, KEYS[role])))


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize("role", KEYS)
def test_a_key_of_one_model_is_for_no_other(role: Role, page: bool, app: FastAPI, texts: dict[str, str]) -> None:
    rows = dict.fromkeys(MODELS, "403 403 403 403") | dict.fromkeys(("neither", "none"), KEYS[role])
    assert asked(app, texts[f"{role} neither"], page) == dict(statuses(rows))


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_key_opens_nothing_not_even_what_is_open(
    name: str, page: bool, app: FastAPI, texts: dict[str, str]
) -> None:
    assert set(asked(app, texts[name], page).values()) == {401}


def test_the_tables_are_whole() -> None:
    assert set(KEYS) == set(get_args(Role))
    assert set(ANYBODY) == set(MODELS)
