"""What every task begins with: the installation of this process, and the model that it is about."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, cast

from prefect import get_run_logger
from prefect.blocks.system import Secret
from pydantic import SecretStr

from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig
from tasks.core.errors import SettingError
from tasks.core.events import Event
from tasks.core.installation import Installation, open_installation
from tasks.core.outbox import queue, send_all
from tasks.core.store import Store

T = TypeVar("T")


def open_model(name: str = "") -> tuple[Installation, ModelConfig]:
    """The installation and a model of it, the only one where none is named.

    Raises:
        StoreUnusable, ModelUnknown: before anything is spent.
    """
    installation = open_installation()
    return installation, installation.model(name)


def artifact_key(model: str, what: str) -> str:
    """The key of an artifact: Prefect shows a series for each key, so that it names its model."""
    return f"{model}-{what}"


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


def everywhere(name: str, work: Callable[[Installation, ModelConfig], T]) -> T:
    """Do work that reaches every place that a model is published to, with the Hub's token of a Prefect Secret block.

    Where that block is missing the work is done without the Hub: what is served must not wait for a token.

    Raises:
        SettingError: afterwards, there is no such block.
    """
    installation, model = open_model(name)
    try:
        token = _hub_token(installation.settings)
    except SettingError:
        without = model.publishing.model_copy(update={"hub_repo": ""})
        work(installation, model.model_copy(update={"publishing": without}))
        raise
    settings = installation.settings.model_copy(update={"hub_token": token})
    return work(replace(installation, settings=settings), model)


def _hub_token(settings: Settings) -> SecretStr:
    if not settings.hub_secret:
        return settings.hub_token
    try:
        return SecretStr(str(cast(Secret[str], Secret.load(settings.hub_secret)).get()))
    except ValueError as error:  # Prefect's answer where there is no such block
        problem = f"there is no Secret block {settings.hub_secret!r} on the Prefect server; create it, or set the token"
        raise SettingError("DYEWORKS_HUB_SECRET", problem) from error
