"""Where releases are published to beside the store itself: a second store, the Hub, MLflow; each idempotent."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from tasks.core.config.model import ModelConfig
from tasks.core.errors import PublishRefused, ReleaseCorrupt, StoreUnusable
from tasks.core.installation import Installation
from tasks.core.publishing.hub import HubPlace
from tasks.core.registry.channel import Channel, flip, points_at, read_channel
from tasks.core.registry.ledger import Entry
from tasks.core.registry.releases import delete_files, prefix, put_release, release_manifest, sha256_of
from tasks.core.registry.withdrawals import Withdrawal, record_withdrawal, refuse_withdrawn
from tasks.core.store import Store, open_store
from tasks.core.store.probe import require_conditions


def publish_to_store(source: Store, target: Store, model: str, entry: Entry) -> Channel:
    """Copy a generation's release, of which files that are there stay, and flip the channel there.

    Raises:
        ReleaseWithdrawn: the release was taken back.
        ReleaseCorrupt: a file is not what the manifest says, at the source or when it was read back.
    """
    if entry.release:
        _copy_release(source, target, model, entry.release)
    return flip(target, model, entry)


def _copy_release(source: Store, target: Store, model: str, release: str) -> None:
    refuse_withdrawn(source, model, release)
    manifest = release_manifest(source, model, release)
    with tempfile.TemporaryDirectory() as folder:

        def bring(name: str) -> Path:
            path = Path(folder) / name
            source.get_file(prefix(model, release) + name, path)
            if sha256_of(path) != manifest.files[name]:
                raise ReleaseCorrupt(release, name)
            return path

        put_release(target, model, manifest, bring)


class StorePlace:
    """A store as a place to publish to."""

    def __init__(self, source: Store, url: str, model: str) -> None:
        self.source, self.model, self.name = source, model, url
        try:
            self.target = open_store(url)
            require_conditions(self.target)
        except StoreUnusable as error:
            raise PublishRefused(url, f"{error} (publishing.store of the model)") from error

    def publish(self, entry: Entry) -> str:
        """Copy the release and flip the channel; the release that is served there then."""
        return publish_to_store(self.source, self.target, self.model, entry).release

    def serves(self, entry: Entry) -> bool:
        """Whether the channel there says what this entry says."""
        return points_at(read_channel(self.target, self.model)[0], entry)

    def withdraw(self, withdrawal: Withdrawal, delete: bool) -> None:
        """Mark a release there as withdrawn, and delete its files."""
        record_withdrawal(self.target, self.model, withdrawal)
        if delete:
            delete_files(self.target, self.model, withdrawal)


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
