"""The generations of a model that can be asked for, as the ledger has them."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from deployments.storefront.render_queue import Served
from tasks.core.registry.channel import Channel
from tasks.core.registry.ledger import history
from tasks.core.store import Store


@dataclass(frozen=True)
class Catalogue:
    """By generation its release (empty: the bare base), when and why it was promoted."""

    releases: dict[int, str] = field(default_factory=dict)
    times: dict[int, datetime] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)

    def without(self, gone: Collection[str]) -> "Catalogue":
        """The same without some releases."""
        kept = {generation: release for generation, release in self.releases.items() if release not in gone}
        return replace(self, releases=kept)

    def find(self, version: str) -> Served | None:
        """What a generation's number or a release's name stands for; None if it can't be asked for."""
        if version.isascii() and version.isdecimal() and len(version) < 10:
            generation = int(version)
            if generation in self.releases:
                return Served(self.releases[generation], generation)
        of_release = [generation for generation, release in self.releases.items() if release and release == version]
        return Served(version, of_release[-1]) if of_release else None


def read_catalogue(store: Store, model: str, channel: Channel | None) -> Catalogue:
    """All generations of a model; of a store that has no ledger, only what its channel points at."""
    entries = history(store, model)
    if not entries and channel:
        return Catalogue({channel.generation: channel.release}, {channel.generation: channel.time})
    return Catalogue(
        {entry.generation: entry.release for entry in entries},
        {entry.generation: entry.time.astimezone(UTC) for entry in entries},
        {entry.generation: entry.reason for entry in entries},
    )
