"""Context shared by the tasks: the installation of this process, the model, events and the Hub's token."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar, cast

from prefect import State, get_run_logger
from prefect.blocks.system import Secret
from pydantic import SecretStr

from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import ModelRequest
from tasks.core.errors import DyeworksError, ModelUnknown, SettingError
from tasks.core.events import Event
from tasks.core.installation import Installation, open_installation
from tasks.core.outbox import queue, send_all
from tasks.core.registry.models import model_names


class ModelsFailed(DyeworksError):
    """A run over all models, or datasets, failed for some of them; the others are done."""

    def __init__(self, failed: dict[str, str], noun: str = "model") -> None:
        faults = "; ".join(f"{noun} {name}: {fault}" for name, fault in failed.items())
        super().__init__(f"failed for {len(failed)} of the {noun}s, done for the others: {faults}")
        self.failed = failed


T = TypeVar("T")
R = TypeVar("R", bound=ModelRequest)


def open_model(name: str = "") -> tuple[Installation, ModelConfig]:
    """The installation and one of its models; without a name, its only model.

    Raises:
        StoreUnusable, ModelUnknown: before any expensive work.
    """
    installation = open_installation()
    return installation, installation.model(name)


def one_a_model(request: R) -> list[R]:
    """The request for the model that it names, or one for each model; raises ModelUnknown where there is none."""
    installation = open_installation()
    names = [request.model] if request.model else model_names(installation.store)
    if not names:
        raise ModelUnknown("", names)
    return [request.model_copy(update={"model": name}) for name in names]


def require_all(states: Mapping[str, State[None]], noun: str = "model") -> None:
    """Raise ModelsFailed if the run of a model, or of another part, did not complete."""
    failed = {name: state.message or str(state.name) for name, state in states.items() if not state.is_completed()}
    if failed:
        raise ModelsFailed(failed, noun)


def artifact_key(model: str, what: str) -> str:
    """The key of an artifact; it contains the model's name, since Prefect groups versions by key."""
    return f"{model}-{what}"


def announce(installation: Installation, *events: Event) -> int:
    """Queue events and send all that are pending; returns how many were sent.

    An undelivered event is logged as a warning and stays in the outbox; later runs, the monitor and reconcile retry it.
    """
    for event in events:
        queue(installation.store, event)
    sent = send_all(installation.store, installation.server)
    for fault in sent.faults.values():
        get_run_logger().warning("%s", fault)
    return sent.number


def with_hub_token(name: str, work: Callable[[Installation, ModelConfig], T]) -> T:
    """Run work that publishes a model, with the Hub's token from a Prefect Secret block.

    Without that block the work runs without the Hub, so that a missing token does not block serving.

    Raises:
        SettingError: the block does not exist; raised after the work.
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
    except ValueError as error:  # raised by Prefect when the block does not exist
        problem = f"there is no Secret block {settings.hub_secret!r} on the Prefect server; create it, or set the token"
        raise SettingError("DYEWORKS_HUB_SECRET", problem) from error
