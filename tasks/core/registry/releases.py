"""Releases: an adapter's files under the hash of their manifest, which is written last.

A name is of the bytes that were written. They are kept and copied as they are, whatever version has written them.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import ObjectMissing, ReleaseCorrupt, ReleaseIncomplete
from tasks.core.registry.withdrawals import Withdrawal, refuse_withdrawn
from tasks.core.store import Store
from tasks.core.store.documents import Document, parse, render

MANIFEST = "manifest.json"
TOMBSTONE = "withdrawn.json"


class ReleaseManifest(Document):
    """The sha256 of every file of a release, and its origin."""

    base_model: str
    dataset: str  # dataset, version and training are empty for an adopted release
    dataset_version: str
    training: str
    trigger: str
    files: dict[str, str]


def prefix(model: str, release: str) -> str:
    """Key prefix of a release."""
    return f"models/{model}/releases/{release}/"


def write_release(store: Store, model: str, folder: Path, about: ReleaseManifest) -> str:
    """Write the files of `folder` as a release and return its name; atomic and idempotent.

    Every file is read back and verified before the manifest is written.

    Raises:
        ReleaseCorrupt: a file read back differs from the one written.
    """
    manifest = render(describe(folder, about))
    put_release(store, model, name_of(manifest), manifest, lambda name: folder / name)
    return name_of(manifest)


def name_of(manifest: bytes) -> str:
    """The name of the release with this manifest."""
    return hashlib.sha256(manifest).hexdigest()[:16]


def describe(folder: Path, about: ReleaseManifest) -> ReleaseManifest:
    """The manifest of the files in a folder."""
    hashes = {p.name: sha256_of(p) for p in sorted(folder.iterdir()) if p.is_file()}
    return about.model_copy(update={"files": hashes})


def put_release(store: Store, model: str, release: str, manifest: bytes, fetch: Callable[[str], Path]) -> None:
    """Write the missing files of a release, each from `fetch`, and its manifest as it is; raises ReleaseCorrupt."""
    place = prefix(model, release)
    for name, sha in parse(ReleaseManifest, manifest, place + MANIFEST).files.items():
        if not holds(store, place + name, sha):
            store.put_file(place + name, fetch(name))
            if not holds(store, place + name, sha):
                raise ReleaseCorrupt(release, name)
    if not holds(store, place + MANIFEST, hashlib.sha256(manifest).hexdigest()):
        store.write(place + MANIFEST, manifest)
        read_manifest(store, model, release)


def delete_files(store: Store, model: str, withdrawal: Withdrawal) -> int:
    """Delete the files of a withdrawn release; returns their number.

    Its manifest stays, with a tombstone that holds the reason.
    """
    place = prefix(model, withdrawal.release)
    there = set(store.list(place))
    files = there - {place + MANIFEST, place + TOMBSTONE}
    store.purge(files)
    if there and place + TOMBSTONE not in there:
        store.write(place + TOMBSTONE, render(withdrawal))
    return len(files)


def release_manifest(store: Store, model: str, release: str) -> ReleaseManifest:
    """The manifest of a release; raises ObjectMissing, or ReleaseCorrupt if it was changed."""
    return parse(ReleaseManifest, read_manifest(store, model, release), prefix(model, release) + MANIFEST)


def read_manifest(store: Store, model: str, release: str) -> bytes:
    """The manifest of a release as it was written; raises ObjectMissing, or ReleaseCorrupt if it was changed."""
    manifest = store.read(prefix(model, release) + MANIFEST)
    if release != name_of(manifest):
        raise ReleaseCorrupt(release, MANIFEST)
    return manifest


def verify_release(store: Store, model: str, release: str) -> ReleaseManifest:
    """Read every file back; raises as `fetch_release` does."""
    refuse_withdrawn(store, model, release)
    manifest = release_manifest(store, model, release)
    for name, sha in manifest.files.items():
        with _complete(store, release):
            found = store.sha256(prefix(model, release) + name)
        if found != sha:
            raise ReleaseCorrupt(release, name)
    return manifest


def fetch_release(store: Store, model: str, release: str, folder: Path) -> ReleaseManifest:
    """Download a release into `folder`.

    Raises:
        ReleaseWithdrawn: it was withdrawn.
        ObjectMissing, ReleaseIncomplete: it is missing, or one of its files.
        ReleaseCorrupt: a file was changed.
    """
    refuse_withdrawn(store, model, release)
    manifest = release_manifest(store, model, release)
    folder.mkdir(parents=True, exist_ok=True)
    for name, sha in manifest.files.items():
        with _complete(store, release):
            store.get_file(prefix(model, release) + name, folder / name)
        if sha256_of(folder / name) != sha:
            raise ReleaseCorrupt(release, name)
    return manifest


@contextmanager
def _complete(store: Store, release: str) -> Iterator[None]:
    """Raise ReleaseIncomplete where a file of the release is missing."""
    try:
        yield
    except ObjectMissing as error:
        raise ReleaseIncomplete(release, error.key, store.url) from error


def holds(store: Store, key: str, sha: str) -> bool:
    """Whether there is an object under the key with this hash."""
    try:
        return store.sha256(key) == sha
    except ObjectMissing:
        return False


def sha256_of(path: Path) -> str:
    """The hash of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
