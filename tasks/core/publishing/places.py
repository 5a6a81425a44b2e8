"""Where releases are published to beside the store itself: every place of the settings, each idempotent."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from tasks.core.config.model import ModelConfig
from tasks.core.installation import Installation
from tasks.core.publishing.hub import HubPlace
from tasks.core.publishing.stores import StorePlace
from tasks.core.registry.ledger import Entry
from tasks.core.registry.withdrawals import Withdrawal


class PublishingPlace(Protocol):
    """A place to publish to. It is made only when it can be used; PublishRefused says why it can't."""

    name: str

    def publish(self, entry: Entry) -> str:
        """Bring a generation there, of which what is there stays; its version there."""

    def serves(self, entry: Entry) -> bool:
        """Whether this generation is what the place shows as the newest."""

    def withdraw(self, withdrawal: Withdrawal, delete: bool) -> None:
        """Mark a release there as withdrawn, and delete its files if asked to."""


def doors(installation: Installation, model: ModelConfig) -> list[Callable[[], PublishingPlace]]:
    """What opens each place, so that one can be tried without the others; each raises PublishRefused."""
    found: list[Callable[[], PublishingPlace]] = []
    if model.publishing.store:
        found.append(partial(StorePlace, installation.store, model.publishing.store, model.name))
    if model.publishing.hub_repo:
        found.append(partial(HubPlace, installation, model))
    return found


def open_places(installation: Installation, model: ModelConfig) -> list[PublishingPlace]:
    """All places, each tried before anything is sent to any; raises PublishRefused."""
    return [door() for door in doors(installation, model)]


def publish_elsewhere(installation: Installation, model: ModelConfig, entry: Entry) -> dict[str, str]:
    """Publish a generation to every place; its version in each."""
    return {place.name: place.publish(entry) for place in open_places(installation, model)}
