"""Notices to people: a Prefect notification block, a webhook, both, or none. What cannot be told fails nothing."""

import logging
from collections.abc import Callable
from functools import partial
from typing import cast

import httpx
from prefect import get_run_logger, task
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.runtime import flow_run

from tasks.core.config.installation import Settings, get_settings
from tasks.core.config.requests import PromoteRequest, RollBackRequest
from tasks.core.errors import NotificationUndelivered
from tasks.core.http import RetryTransport
from tasks.core.notifications import (
    Notification,
    promotion_notification,
    roll_back_notification,
    withdrawal_notification,
)
from tasks.core.registry.ledger import Entry
from tasks.core.registry.results import PromotionResult
from tasks.core.store.documents import digest
from tasks.timeouts import SHORT

TIMEOUT = 5  # seconds of one try
logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells URLs, and those of webhooks are secrets


def tell_promotion(result: PromotionResult, request: PromoteRequest) -> None:
    """Tell what the gate has decided, or a person against it."""
    notify(promotion_notification(get_settings().model, result, request.actor, request.reason))


def tell_roll_back(entry: Entry, request: RollBackRequest) -> None:
    """Tell of the roll-back that was asked for; of none where nothing was to be done."""
    if (entry.action, entry.actor, entry.reason) == ("roll_back", request.actor, request.reason):
        notify(roll_back_notification(get_settings().model, entry))


def tell_withdrawal(release: str, actor: str, reason: str, generation: int = 0, pending: tuple[str, ...] = ()) -> None:
    """Tell that a release was taken back for good, what is served in its place, if it was served, and what is left."""
    notify(withdrawal_notification(get_settings().model, release, actor, reason, generation, pending))


@task(timeout_seconds=SHORT)
def notify(notice: Notification) -> None:
    """Send a notice wherever the settings say; one that is not delivered is a warning."""
    settings = get_settings()
    run = f"\nRun: {flow_run.ui_url}" if flow_run.ui_url else ""
    told = notice.model_copy(update={"text": f"{notice.text}\nStore: {settings.store}{run}"})
    for send in _channels(settings):
        try:
            send(told)
        except NotificationUndelivered as error:
            get_run_logger().warning("%s", error)


def _channels(settings: Settings) -> list[Callable[[Notification], None]]:
    channels: list[Callable[[Notification], None]] = []
    if settings.notify_block:
        channels.append(partial(send_by_block, settings.notify_block))
    if url := settings.notify_webhook.get_secret_value():
        channels.append(partial(send_by_webhook, url))
    return channels


def send_by_block(name: str, notice: Notification) -> None:
    """Send by a notification block, TYPE/NAME; raises NoticeUndelivered."""
    setting = "DYEWORKS_NOTIFY_BLOCK"
    try:
        block = _load(name)
    except Exception as error:  # a boundary: blocks are of any package, and Prefect raises as many kinds
        raise NotificationUndelivered(setting, f"block {name!r} cannot be loaded ({type(error).__name__})") from None
    if not isinstance(block, NotificationBlock):
        raise NotificationUndelivered(setting, f"block {name!r} is a {type(block).__name__}, which cannot notify")
    try:
        with block.raise_on_failure():
            block.notify(notice.text, notice.subject)  # type: ignore[unused-coroutine]  # in a task it runs at once
    except Exception as error:  # the same; its message may hold the secret
        raise NotificationUndelivered(setting, f"block {name!r} failed ({type(error).__name__})") from None


def _load(name: str) -> Block:
    import prefect.blocks.notifications  # noqa: F401, PLC0415  makes the types known; late: it takes a second

    return cast(Block, Block.load(name))


def send_by_webhook(url: str, notice: Notification) -> None:
    """Post a notice as JSON, again only where it surely was not taken; raises NoticeUndelivered, without the URL."""
    body = notice.model_dump(mode="json", exclude={"schema_version"})
    named = {"Idempotency-Key": digest(body)}
    try:
        with httpx.Client(transport=RetryTransport(once=True), timeout=TIMEOUT) as client:
            status = client.post(url, json=body, headers=named).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotificationUndelivered("DYEWORKS_NOTIFY_WEBHOOK", f"no answer ({type(error).__name__})") from None
    if not httpx.codes.is_success(status):
        raise NotificationUndelivered("DYEWORKS_NOTIFY_WEBHOOK", f"the answer was {status}")
