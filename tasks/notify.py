"""Notifications: a Prefect notification block, a webhook, both, or none. A failed delivery does not fail the run."""

import logging
from collections.abc import Callable
from functools import partial
from typing import cast

import httpx
from prefect import get_run_logger, task
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.runtime import flow_run

from tasks.context import open_model
from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest, RollBackRequest
from tasks.core.errors import NotificationUndelivered
from tasks.core.http import RetryTransport
from tasks.core.notifications import Notification, promotion_notification, roll_back_notification
from tasks.core.registry.ledger import Entry
from tasks.core.registry.results import PromotionResult
from tasks.core.store.documents import digest
from tasks.timeouts import SHORT

TIMEOUT = 5  # seconds of one try
logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs, and webhook URLs are secrets


def notify_promotion(result: PromotionResult, request: PromoteRequest) -> None:
    """Send a notification of the gate's decision, or of an operator's override."""
    notify(promotion_notification(result.model, result, request.actor, request.reason))


def notify_roll_back(entry: Entry, request: RollBackRequest) -> None:
    """Send a notification of the requested roll-back; none when there was nothing to roll back."""
    if (entry.action, entry.actor, entry.reason) == ("roll_back", request.actor, request.reason):
        notify(roll_back_notification(open_model(request.model)[1].name, entry))


@task(timeout_seconds=SHORT)
def notify(notification: Notification) -> None:
    """Send a notification to every channel of its model; a failed delivery is logged as a warning."""
    installation, model = open_model(notification.model)
    run = f"\nRun: {flow_run.ui_url}" if flow_run.ui_url else ""
    text = f"{notification.text}\nStore: {installation.settings.store}{run}"
    for send in _channels(installation.settings, model):
        try:
            send(notification.model_copy(update={"text": text}))
        except NotificationUndelivered as error:
            get_run_logger().warning("%s", error)


def _channels(settings: Settings, model: ModelConfig) -> list[Callable[[Notification], None]]:
    channels: list[Callable[[Notification], None]] = []
    if model.notify_block:
        channels.append(partial(send_by_block, model.notify_block))
    if url := settings.notify_webhook.get_secret_value():
        channels.append(partial(send_by_webhook, url))
    return channels


def send_by_block(name: str, notification: Notification) -> None:
    """Send by a notification block, TYPE/NAME; raises NotificationUndelivered."""
    setting = "notify_block of the model"
    try:
        block = _load(name)
    except Exception as error:  # boundary: blocks come from any package and raise any exception
        raise NotificationUndelivered(setting, f"block {name!r} cannot be loaded ({type(error).__name__})") from None
    if not isinstance(block, NotificationBlock):
        raise NotificationUndelivered(setting, f"block {name!r} is a {type(block).__name__}, not a notification block")
    try:
        with block.raise_on_failure():
            block.notify(notification.text, notification.subject)  # type: ignore[unused-coroutine]  # in a task it runs synchronously
    except Exception as error:  # boundary, as above; its message may contain the secret
        raise NotificationUndelivered(setting, f"block {name!r} failed ({type(error).__name__})") from None


def _load(name: str) -> Block:
    import prefect.blocks.notifications  # noqa: F401, PLC0415  registers the block types; imported late: it takes a second

    return cast(Block, Block.load(name))


def send_by_webhook(url: str, notification: Notification) -> None:
    """Post a notification as JSON; retried only when it certainly was not delivered.

    Raises:
        NotificationUndelivered: without the URL, which is a secret.
    """
    body = notification.model_dump(mode="json", exclude={"schema_version"})
    headers = {"Idempotency-Key": digest(body)}
    try:
        with httpx.Client(transport=RetryTransport(once=True), timeout=TIMEOUT) as client:
            status = client.post(url, json=body, headers=headers).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotificationUndelivered("DYEWORKS_NOTIFY_WEBHOOK", f"no response ({type(error).__name__})") from None
    if not httpx.codes.is_success(status):
        raise NotificationUndelivered("DYEWORKS_NOTIFY_WEBHOOK", f"the response was HTTP {status}")
