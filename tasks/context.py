"""What every task begins with: the settings and the store of this process."""

from collections.abc import Callable
from typing import TypeVar, cast

from prefect import get_run_logger
from prefect.blocks.system import Secret
from pydantic import SecretStr

from tasks.core.config.installation import Settings, get_settings
from tasks.core.errors import SettingError
from tasks.core.events import Event
from tasks.core.outbox import queue, send_all
from tasks.core.store import Store, open_store

T = TypeVar("T")


def open_context() -> tuple[Store, Settings]:
    """The store and the settings; raises StoreUnusable before anything is spent."""
    settings = get_settings()
    return open_store(settings.store), settings


def announce(store: Store, *events: Event) -> int:
    """Queue events and send all that wait; how many were sent.

    What is not taken is a warning: it stays in the outbox, which every such run, the monitor and reconcile send again.
    """
    for event in events:
        queue(store, event)
    sent = send_all(store)
    for fault in sent.faults.values():
        get_run_logger().warning("%s", fault)
    return sent.number


def everywhere(work: Callable[[Store, Settings], T]) -> T:
    """Do work that reaches every place to publish to, with the Hub's token of a Prefect Secret block.

    Where that block is missing the work is done without the Hub: what is served must not wait for a token.

    Raises:
        SettingError: afterwards, there is no such block.
    """
    store, settings = open_context()
    try:
        token = _hub_token(settings)
    except SettingError:
        work(store, settings.model_copy(update={"hub_repo": ""}))
        raise
    return work(store, settings.model_copy(update={"hub_token": token}))


def _hub_token(settings: Settings) -> SecretStr:
    if not settings.hub_secret:
        return settings.hub_token
    try:
        return SecretStr(str(cast(Secret[str], Secret.load(settings.hub_secret)).get()))
    except ValueError as error:  # so Prefect tells that there is no such block
        problem = f"there is no Secret block {settings.hub_secret!r} on the Prefect server; create it, or set the token"
        raise SettingError("DYEWORKS_HUB_SECRET", problem) from error
