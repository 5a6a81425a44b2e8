"""Messages of Standard Webhooks, signed by the library and by what an attacker would send."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from standardwebhooks import Webhook

from deployments.gateway.app import create_app
from tasks.core.config.installation import Settings
from tasks.core.errors import SettingError
from tests.unit.deployments.gateway.senders import Body, arrived, counted, opened, payload, subscribe

OLD, NEW, OTHER = (f"whsec_{letter * 40}" for letter in "ABC")
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("DYEWORKS_WEBHOOK_SECRETS", f"{OLD},{NEW}")
    subscribe()
    with opened() as running:
        yield running


def signed(body: bytes, secret: str = NEW, message: str = "msg_1", age: float = 0) -> dict[str, str]:
    """The headers of a message that was signed so many seconds ago."""
    time = datetime.now(UTC) - timedelta(seconds=age)
    signature = Webhook(secret).sign(message, time, body.decode())
    return {ID: message, TIMESTAMP: str(int(time.timestamp())), SIGNATURE: signature}


def send(client: TestClient, body: Body | bytes, **how: str | float) -> Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/hooks/standard", content=data, headers=signed(data, **how))  # type: ignore[arg-type]


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_message_of_each_live_secret_is_taken_once(client: TestClient, secret: str) -> None:
    body = payload("standard_created")
    answers = [send(client, body, secret=secret, message=message) for message in ("a", "a", "b")]
    assert [(answer.status_code, answer.json()["new"]) for answer in answers] == [(202, 3), (202, 0), (202, 3)]
    assert sorted(set(arrived())) == [("adire", key) for key in ("_READY", "roll 7/one.heic", "roll 7/two.heic")]
    assert counted(client, "dyeworks_notifications_total", sender="standard", outcome="new") == 6


def test_signature_of_a_rotated_secret_beside_others_is_enough(client: TestClient) -> None:
    data = json.dumps(payload("standard_created")).encode()
    headers = signed(data)
    headers[SIGNATURE] = f"v1a,AAAA {signed(data, OTHER)[SIGNATURE]} {headers[SIGNATURE]}"
    assert client.post("/hooks/standard", content=data, headers=headers).status_code == 202


def test_other_types_are_ignored(client: TestClient) -> None:
    answer = send(client, {"type": "upload.removed", "data": None})
    assert (answer.status_code, answer.json()["ignored"]) == (200, ["upload.removed"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"[" * 100_000,
        {"type": 7},
        {"type": "upload.created"},
        {"type": "upload.created", "data": {"dataset": "adire", "keys": []}},
        {"type": "upload.created", "data": {"dataset": "adire", "keys": "a.png"}},
        {"type": "upload.created", "data": {"dataset": "adire", "keys": [7, None, ""]}},
        {"type": "upload.created", "data": {"dataset": "adire", "keys": ["../../etc/passwd"]}},
        {"type": "upload.created", "data": {"dataset": "..", "keys": ["a.png"]}},
        {"type": "upload.created", "data": {"dataset": "a/b", "keys": ["a.png"]}},
        {"type": "upload.created", "data": {"dataset": "", "keys": ["a.png"]}},
        {"type": "upload.created", "data": {"dataset": "adire", "keys": ["a"] * 10_001}},
    ],
)
def test_malformed_message_is_refused(client: TestClient, body: Body | bytes) -> None:
    assert send(client, body).status_code == 422
    assert arrived() == []


def refused(client: TestClient, headers: dict[str, str], data: bytes = b"{}") -> str:
    """The code of a 401, which is counted."""
    answer = client.post(
        "/hooks/standard",
        content=data,
        headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    )
    code = str(answer.json()["error"]["code"])
    assert answer.status_code == 401
    assert counted(client, "dyeworks_requests_refused_total", reason=code) >= 1
    return code


@pytest.mark.parametrize("age", [301, 86_400, -301])
def test_message_that_was_signed_too_long_ago_is_refused(client: TestClient, age: float) -> None:
    assert refused(client, signed(b"{}", age=age)) == "old_timestamp"


def test_message_within_the_window_is_taken(client: TestClient) -> None:
    assert send(client, {"type": "ping"}, age=290).status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        {SIGNATURE: value}
        for value in ("", "v1", "v1,", "v1,?", "v1,AAAA", "v2,AAAA", ",", "v1,A,B", "\xff\xfe", "v1,\xe9")
    ]
    + [{ID: ""}, {ID: "other"}, {ID: "m" * 257}, {TIMESTAMP: ""}],
)
def test_malformed_or_wrong_signature_is_refused(client: TestClient, changed: dict[str, str]) -> None:
    assert refused(client, signed(b"{}") | changed) == "wrong_signature"


@pytest.mark.parametrize("timestamp", ["nan", "inf", "-1", "soon", "1e400", "9" * 400])
def test_timestamp_that_is_none_is_refused(client: TestClient, timestamp: str) -> None:
    assert refused(client, signed(b"{}") | {TIMESTAMP: timestamp}) == "old_timestamp"


def test_changed_body_and_foreign_secret_are_refused(client: TestClient) -> None:
    assert refused(client, signed(b"{}"), b"{} ") == "wrong_signature"
    assert refused(client, signed(b"{}", OTHER)) == "wrong_signature"
    assert refused(client, signed(b"{}"), b"\xff\xfe") == "wrong_signature"


def test_few_bodies_are_read_at_once(client: TestClient) -> None:
    places = client.app.state.gateway.hooks.places  # type: ignore[attr-defined]
    with ExitStack() as others:
        for _ in range(places.most):
            others.enter_context(places.taken())
        answer = send(client, {"type": "ping"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json()["error"]["type"] == "server_error"
        assert refused(client, {}) == "wrong_signature", "no body is read for it"
    assert [send(client, {"type": "ping"}).status_code for _ in range(places.most + 1)] == [200] * (places.most + 1)
    assert places.used.total() == 0


def test_a_wrong_signature_is_an_error_of_authentication(client: TestClient) -> None:
    answer = client.post("/hooks/standard", content=b"{}")
    assert answer.json()["error"]["type"] == "authentication_error"


def test_without_a_secret_all_is_refused() -> None:
    assert send(opened(), {"type": "ping"}).status_code == 401


@pytest.mark.parametrize(
    "secret", ["whsec_", "whsec_AAAA", "A" * 40, "whsec_?", f"{NEW},whsec_AAAA", "whsec_" + "A" * 96]
)
def test_weak_or_malformed_secret_ends_the_start(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("DYEWORKS_WEBHOOK_SECRETS", secret)
    with pytest.raises(SettingError, match="DYEWORKS_WEBHOOK_SECRETS"):
        create_app(Settings())
