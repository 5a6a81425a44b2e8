"""Who may notify and upload: tokens and API keys, through a small application with the gateway's access."""

import base64
from collections.abc import Callable
from datetime import timedelta

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from httpx2 import Response

from deployments.gateway.access import GatewayAccess
from deployments.problems import add_handlers
from tasks.core import clock
from tasks.core.access.keys import KeyRing, create_key, revoke_key
from tasks.core.access.roles import Role
from tasks.core.config.installation import Settings
from tasks.core.store import FolderStore

OLD, NEW = "the-old-token-0", "the-new-token-1"
Ask = Callable[..., Response]


@pytest.fixture
def keys(folder: FolderStore) -> KeyRing:
    ring = KeyRing()
    ring.refresh(folder)
    return ring


@pytest.fixture
def ask(keys: KeyRing, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Asks as `notifier`, `uploader` or `reader` with an Authorization header."""
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", f"{OLD}, {NEW},")
    access, app = GatewayAccess(Settings(), keys), FastAPI()

    @app.get("/{who}")
    def admit(who: str, request: Request) -> str:
        if who == "uploader":
            return access.uploader(request).name
        if who == "notifier":
            return access.notifier(request)
        access.reader(request)
        return who

    add_handlers(app)
    client = TestClient(app)
    return lambda who, header=b"": client.get(f"/{who}", headers={b"Authorization": header} if header else {})


def basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize("token", [OLD, NEW])
def test_each_token_of_the_list_notifies_as_bearer_and_as_password(ask: Ask, token: str) -> None:
    shown = (f"Bearer {token}".encode(), f"bearer  {token}".encode(), basic(f"sns:{token}".encode()))
    assert [ask("notifier", header).json() for header in shown] == ["token"] * 3


@pytest.mark.parametrize(
    "header",
    [
        *(b"", b"Bearer", b"Bearer ", b"Bearer ,", b"Bearer other", b"Basic", b"Basic ?", b"Basic \xe9", b"Digest x"),
        *(f"Bearer {OLD}, {NEW}".encode(), OLD.encode(), f"Basic {OLD}".encode(), b"Bearer \xff\xfe", basic(b"\xff")),
        *(basic(f"{OLD}:".encode()), basic(OLD.encode()), basic(b":"), basic(b"sns:other")),
    ],
)
def test_anything_else_is_refused_with_a_challenge(ask: Ask, header: bytes) -> None:
    for who in ("notifier", "uploader"):
        answer = ask(who, header)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="dyeworks", Bearer realm=')


def test_no_token_is_valid_where_none_is_set(keys: KeyRing) -> None:
    assert GatewayAccess(Settings(), keys).tokens == []


@pytest.mark.parametrize(
    ("role", "statuses"),
    [
        ("ingest", [200, 200, 403]),
        ("operator", [200, 200, 200]),
        ("admin", [200, 200, 200]),
        ("viewer", [403, 403, 200]),
        ("releaser", [403, 403, 200]),
        ("visitor", [403, 403, 403]),
    ],
)
def test_keys_may_what_their_role_may(
    ask: Ask, keys: KeyRing, folder: FolderStore, role: Role, statuses: list[int]
) -> None:
    text, _ = create_key(folder, role, "camera")
    keys.refresh(folder)
    answers = [ask(who, f"Bearer {text}".encode()) for who in ("notifier", "uploader", "reader")]
    assert [answer.status_code for answer in answers] == statuses
    assert [answer.json() for answer in answers[:2] if answer.is_success] in ([], ["key camera", "camera"])
    assert ask("uploader", basic(f":{text}".encode())).status_code == statuses[1]


def test_metrics_are_open_without_a_key_and_closed_to_a_wrong_one(ask: Ask) -> None:
    assert [ask("reader", header).status_code for header in (b"", b"Bearer other")] == [200, 401]


def test_a_key_for_certain_models_uploads_and_does_not_notify(ask: Ask, keys: KeyRing, folder: FolderStore) -> None:
    text, _ = create_key(folder, "ingest", "camera", ["adire"])
    keys.refresh(folder)
    assert [ask(who, f"Bearer {text}".encode()).status_code for who in ("notifier", "uploader")] == [403, 200]


def test_revoked_and_expired_keys_are_refused(ask: Ask, keys: KeyRing, folder: FolderStore) -> None:
    revoked, _ = create_key(folder, "ingest", "gone")
    expired, _ = create_key(folder, "ingest", "late", expires=clock.now() - timedelta(seconds=1))
    revoke_key(folder, "gone")
    keys.refresh(folder)
    assert [ask("uploader", f"Bearer {text}".encode()).status_code for text in (revoked, expired)] == [401, 401]


def test_tokens_are_valid_before_the_store_was_read_and_keys_ask_for_a_retry(
    folder: FolderStore, ask: Ask, keys: KeyRing
) -> None:
    text, _ = create_key(folder, "ingest", "camera")
    keys.keys = None
    answer = ask("uploader", f"Bearer {text}".encode())
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert ask("notifier", f"Bearer {NEW}".encode()).status_code == 200
