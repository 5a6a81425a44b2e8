"""Places that releases are published to beside the store: a second store and the Hub; each idempotent."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from tasks.core.config.model import ModelConfig
from tasks.core.errors import PublishRefused, ReleaseCorrupt, StoreUnusable
from tasks.core.installation import Installation
from tasks.core.publishing.hub import HubTarget
from tasks.core.registry.channel import Channel, flip, points_at, read_channel
from tasks.core.registry.ledger import Entry
from tasks.core.registry.releases import delete_files, prefix, put_release, read_manifest, release_manifest, sha256_of
from tasks.core.registry.withdrawals import Withdrawal, record_withdrawal, refuse_withdrawn
from tasks.core.store import Store, open_store
from tasks.core.store.conditional_writes import require_conditions


def publish_to_store(source: Store, target: Store, model: str, entry: Entry) -> Channel:
    """Copy the missing files of a generation's release, then flip the target's channel.

    Raises:
        ReleaseWithdrawn: the release was withdrawn.
        ReleaseCorrupt: a file differs from the manifest, at the source or when read back.
    """
    if entry.release:
        _copy_release(source, target, model, entry.release)
    return flip(target, model, entry)


def _copy_release(source: Store, target: Store, model: str, release: str) -> None:
    refuse_withdrawn(source, model, release)
    files = release_manifest(source, model, release).files
    with tempfile.TemporaryDirectory() as folder:

        def fetch(name: str) -> Path:
            path = Path(folder) / name
            source.get_file(prefix(model, release) + name, path)
            if sha256_of(path) != files[name]:
                raise ReleaseCorrupt(release, name)
            return path

        put_release(target, model, release, read_manifest(source, model, release), fetch)


class StoreTarget:
    """A store as a place to publish to."""

    def __init__(self, source: Store, url: str, model: str) -> None:
        self.source, self.model, self.name = source, model, url
        try:
            self.target = open_store(url)
            require_conditions(self.target)
        except StoreUnusable as error:
            raise PublishRefused(url, f"{error} (publishing.store of the model)") from error

    def publish(self, entry: Entry) -> str:
        """Copy the release and flip the channel; returns the release served there."""
        return publish_to_store(self.source, self.target, self.model, entry).release

    def serves(self, entry: Entry) -> bool:
        """Whether the target's channel points at this entry."""
        return points_at(read_channel(self.target, self.model)[0], entry)

    def withdraw(self, withdrawal: Withdrawal, delete: bool) -> None:
        """Mark a release as withdrawn there, and delete its files."""
        record_withdrawal(self.target, self.model, withdrawal)
        if delete:
            delete_files(self.target, self.model, withdrawal)


class PublishingTarget(Protocol):
    """A place to publish to. Its constructor raises PublishRefused if it cannot be used."""

    name: str

    def publish(self, entry: Entry) -> str:
        """Publish a generation, idempotently; returns its version there."""

    def serves(self, entry: Entry) -> bool:
        """Whether this generation is the newest one published there."""

    def withdraw(self, withdrawal: Withdrawal, delete: bool) -> None:
        """Mark a release as withdrawn there, and delete its files if `delete`."""


def target_factories(installation: Installation, model: ModelConfig) -> list[Callable[[], PublishingTarget]]:
    """A constructor of each place, so that each can be opened independently; each raises PublishRefused."""
    found: list[Callable[[], PublishingTarget]] = []
    if model.publishing.store:
        found.append(partial(StoreTarget, installation.store, model.publishing.store, model.name))
    if model.publishing.hub_repo:
        found.append(partial(HubTarget, installation, model))
    return found


def open_places(installation: Installation, model: ModelConfig) -> list[PublishingTarget]:
    """All places, each checked before anything is sent to any; raises PublishRefused."""
    return [open_place() for open_place in target_factories(installation, model)]


def publish_elsewhere(installation: Installation, model: ModelConfig, entry: Entry) -> dict[str, str]:
    """Publish a generation to every place; returns its version in each."""
    return {place.name: place.publish(entry) for place in open_places(installation, model)}
