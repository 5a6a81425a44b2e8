"""Notifications over real HTTP; a failed delivery is a warning without the secret, and fails nothing."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.logging import disable_run_logger

from tasks import notify as module
from tasks.core import http
from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import RollBackRequest
from tasks.core.errors import NotificationUndelivered
from tasks.core.notifications import withdrawal_notification
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tasks.notify import notify, notify_roll_back, send_by_block, send_by_webhook
from tests.adire import adire
from tests.events_server import EventsServer
from tests.unit.core.test_notifications import rolled_back

NOTIFICATION = withdrawal_notification("adire", "ab12", "ada", 'it shows "me@example.com"')


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventsServer]:
    """A server that accepts POST requests."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    server = EventsServer()
    server.start()
    yield server
    server.stop()


def secret(server: EventsServer) -> str:
    return f"{server.url}/hooks/s3cr3t"


def hook(server: EventsServer) -> CustomWebhookNotificationBlock:
    body: dict[str, Any] = {"title": "{{subject}}", "text": "{{body}}"}
    return CustomWebhookNotificationBlock(name="team", url=secret(server), json_data=body)


@pytest.fixture
def block(receiver: EventsServer, monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """The block that is loaded for every name."""
    found: list[Block] = [hook(receiver)]
    monkeypatch.setattr(module, "_load", lambda _: found[0])
    return found


def test_webhook_receives_the_whole_notification(receiver: EventsServer) -> None:
    send_by_webhook(secret(receiver), NOTIFICATION)
    assert receiver.paths == ["/api/hooks/s3cr3t"]
    assert set(receiver.posted[0]) == {"event", "model", "generation", "verdict", "reason", "subject", "text", "time"}
    assert receiver.posted[0]["reason"] == 'it shows "me@example.com"'
    assert receiver.posted[0]["event"] == "withdrawn"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_possibly_delivered_notification_is_posted_once(receiver: EventsServer, status: int) -> None:
    receiver.status = status
    with pytest.raises(NotificationUndelivered, match=str(status)):
        send_by_webhook(secret(receiver), NOTIFICATION)
    assert len(receiver.paths) == 1


def test_equal_notifications_have_the_same_idempotency_key(receiver: EventsServer) -> None:
    for notification in (NOTIFICATION, NOTIFICATION, NOTIFICATION.model_copy(update={"reason": "another"})):
        send_by_webhook(secret(receiver), notification)
    first, again, other = [headers["Idempotency-Key"] for headers in receiver.headers]
    assert first == again != other


def test_a_block_gets_subject_and_text(receiver: EventsServer, block: list[Block]) -> None:
    send_by_block("custom-webhook/team", NOTIFICATION)
    assert receiver.posted == [{"title": NOTIFICATION.subject, "text": NOTIFICATION.text}]


@pytest.mark.parametrize(("status", "answer"), [(404, "404"), (500, "500"), (503, "503")])
def test_error_response_is_reported(receiver: EventsServer, block: list[Block], status: int, answer: str) -> None:
    receiver.status = status
    with pytest.raises(
        NotificationUndelivered, match=f"the response was HTTP {answer}; check DYEWORKS_NOTIFY_WEBHOOK"
    ) as caught:
        send_by_webhook(secret(receiver), NOTIFICATION)
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(
        NotificationUndelivered, match=r"block 'custom-webhook/team' failed \(HTTPStatusError\)"
    ) as caught:
        send_by_block("custom-webhook/team", NOTIFICATION)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/s3cr3t", "s3cr3t", "http://[s3cr3t", "ftp://127.0.0.1/s3cr3t"])
def test_unreachable_url_is_reported_without_the_url(receiver: EventsServer, url: str) -> None:
    with pytest.raises(NotificationUndelivered, match="DYEWORKS_NOTIFY_WEBHOOK") as caught:
        send_by_webhook(url, NOTIFICATION)
    assert "s3cr3t" not in str(caught.value)


def test_a_block_of_another_kind_is_reported(receiver: EventsServer, block: list[Block]) -> None:
    block[0] = Secret(value="s3cr3t")
    with pytest.raises(NotificationUndelivered, match="'secret/team' is a Secret, not a notification block"):
        send_by_block("secret/team", NOTIFICATION)


def test_notify_uses_both_channels_and_logs_no_secret(
    receiver: EventsServer,
    block: list[Block],
    folder: FolderStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    apply_config(folder, adire(notify_block="custom-webhook/team"))
    monkeypatch.setenv("DYEWORKS_NOTIFY_WEBHOOK", secret(receiver))
    monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("run"))
    caplog.set_level(logging.DEBUG)
    notify.fn(NOTIFICATION)
    assert receiver.posted[0]["text"].startswith(NOTIFICATION.text)
    assert receiver.posted[1]["text"].startswith(NOTIFICATION.text)
    assert f"\nStore: {Settings().store}" in receiver.posted[1]["text"]
    receiver.status = 500
    notify.fn(NOTIFICATION)
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 2
    assert "s3cr3t" not in caplog.text


def test_nothing_is_sent_without_a_channel(receiver: EventsServer, applied: ModelConfig) -> None:
    with disable_run_logger():
        notify.fn(NOTIFICATION)
    assert receiver.paths == []


def test_roll_back_without_effect_is_not_notified(applied: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    subjects: list[str] = []
    monkeypatch.setattr(module, "notify", lambda notification: subjects.append(notification.subject))
    request = RollBackRequest(leaves=4, actor="storefront guard", reason="too blue!")
    notify_roll_back(rolled_back("ab12", 3), request)
    assert subjects == []
    notify_roll_back(rolled_back("ab12", 3, "storefront guard"), request)
    assert subjects == ["adire: rolled back to generation 3 (release ab12)"]
