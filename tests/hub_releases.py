"""Releases to publish to a Hub, and what it then holds of them."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from tasks.core.models.identity import WEIGHTS
from tasks.core.publishing.hub import Hub
from tasks.core.registry.ledger import Entry
from tasks.core.registry.releases import MANIFEST, ReleaseManifest, name_of
from tasks.core.store.documents import render
from tests.hub_repos import Repo
from tests.hub_server import HubServer

REPO = "cloth/adire"


class Release:
    """A release in a folder, and the ledger's entry of it."""

    def __init__(self, folder: Path, name: str, generation: int, restores: int = 0) -> None:
        self.folder = folder / f"{name}-{generation}"
        self.folder.mkdir()
        self.files = {
            "README.md": f"---\nlicense: mit\ntags:\n- lora\n---\n\n# {name}\n".encode(),
            "samples.png": b"\x89PNG\r\n\x1a\n\0\xff" + name.encode(),
            WEIGHTS: b"weights\0" + name.encode(),
        }
        for path, data in self.files.items():
            (self.folder / path).write_bytes(data)
        self.manifest = ReleaseManifest(
            base_model="embedded-1",
            dataset="cloth",
            dataset_version="v1",
            training=name,
            trigger="adire_style",
            files={path: hashlib.sha256(data).hexdigest() for path, data in self.files.items()},
        )
        self.files[MANIFEST] = render(self.manifest)
        self.entry = Entry(
            generation=generation,
            action="roll_back" if restores else "promote",
            release=name_of(self.files[MANIFEST]),
            dataset_version="v1",
            restores=restores,
            actor="ada",
            reason="it is better",
            time=datetime(2026, 3, 1, tzinfo=UTC),
        )

    def publish(self, hub: Hub) -> str:
        return hub.publish(self.folder, self.entry, render(self.manifest))


def repo_of(server: HubServer) -> Repo:
    return server.repos[REPO]
