"""Releases: an adapter's files under the hash of their manifest, which is written last."""

import hashlib
from pathlib import Path

from tasks.core.documents import Document, digest, parse, render
from tasks.core.errors import ReleaseCorrupt
from tasks.core.store import Store

MANIFEST = "manifest.json"
WEIGHTS = "pytorch_lora_weights.safetensors"


class ReleaseManifest(Document):
    """The sha256 of every file of a release, and what it was made from."""

    base_model: str
    dataset: str
    dataset_version: str
    training: str
    trigger: str
    files: dict[str, str]


def prefix(model: str, release: str) -> str:
    """Where a release lies."""
    return f"models/{model}/releases/{release}/"


def write_release(store: Store, model: str, folder: Path, about: ReleaseManifest) -> str:
    """Write the files of `folder` as a release and return its name; complete or absent, repeatable."""
    files = {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = about.model_copy(update={"files": hashes})
    release = digest(manifest)
    for name, data in files.items():
        store.write(prefix(model, release) + name, data)
    store.write(prefix(model, release) + MANIFEST, render(manifest))
    return release


def fetch_release(store: Store, model: str, release: str, folder: Path) -> ReleaseManifest:
    """Bring a release into `folder`; raises ObjectMissing, or ReleaseCorrupt for a file that was changed."""
    key = prefix(model, release) + MANIFEST
    manifest = parse(ReleaseManifest, store.read(key), key)
    if digest(manifest) != release:
        raise ReleaseCorrupt(release, MANIFEST)
    folder.mkdir(parents=True, exist_ok=True)
    for name, sha in manifest.files.items():
        data = store.read(prefix(model, release) + name)
        if hashlib.sha256(data).hexdigest() != sha:
            raise ReleaseCorrupt(release, name)
        (folder / name).write_bytes(data)
    return manifest
