"""A model of the Hugging Face Hub as a place to publish to."""

import tempfile
from pathlib import Path

from tasks.core.publishing.hub import open_hub
from tasks.core.registry.ledger import Entry, history
from tasks.core.registry.releases import fetch_release, release_manifest
from tasks.core.registry.withdrawals import Withdrawal
from tasks.core.settings import Settings
from tasks.core.store import Store


class HubPlace:
    """The model that the settings name; raises PublishRefused unless it can be published to."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store, self.model = store, settings.model
        self.hub = open_hub(settings)
        self.hub.check()
        self.name = self.hub.repository.url

    def publish(self, entry: Entry) -> str:
        """Make main this generation's release; its commit. The bare base is no LoRA: main stays as it was left."""
        if not entry.release:
            return ""
        with tempfile.TemporaryDirectory() as folder:
            manifest = fetch_release(self.store, self.model, entry.release, Path(folder))
            return self.hub.publish(Path(folder), entry, manifest)

    def serves(self, entry: Entry) -> bool:
        """Whether this generation was published; what people have changed on main since is theirs."""
        return not entry.release or self.hub.has(entry.generation)

    def withdraw(self, withdrawal: Withdrawal, delete: bool) -> None:
        """Take a release and the tags of its generations off the Hub, and delete its large files if asked to."""
        manifest = release_manifest(self.store, self.model, withdrawal.release)
        generations = [e.generation for e in history(self.store, self.model) if e.release == withdrawal.release]
        self.hub.withdraw(withdrawal.release, manifest, generations, withdrawal.reason, delete=delete)
