"""Dataset versions: immutable manifests over content-addressed pictures."""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePosixPath

from tasks.core import clock
from tasks.core.data.pictures import SUFFIXES, decode
from tasks.core.documents import Document, digest, read_document, render
from tasks.core.errors import DatasetUnusable, ObjectExists, ObjectMissing, PictureRefused
from tasks.core.specs import IngestSpec
from tasks.core.store import Store


class Item(Document):
    """A picture of a dataset, by the sha256 of its bytes."""

    sha256: str
    caption: str
    name: str


class Manifest(Document):
    """A dataset version; `version` is the hash of its sorted items."""

    dataset: str
    version: str
    created: datetime
    items: tuple[Item, ...]
    new: int  # pictures that no earlier version has


class Head(Document):
    """The version that the last ingest made or found again."""

    version: str


class Refusal(Document):
    """Why an upload is not in the dataset."""

    dataset: str
    sha256: str
    name: str
    reason: str
    time: datetime


def manifest_key(dataset: str, version: str) -> str:
    """Where a version's manifest lies."""
    return f"datasets/{dataset}/{version}/manifest.json"


def _head_key(dataset: str) -> str:
    return f"datasets/{dataset}/head.json"


def load_manifest(store: Store, dataset: str, version: str = "") -> Manifest:
    """A version, the newest by default; raises DatasetUnusable when there is none."""
    try:
        version = version or read_document(store, Head, _head_key(dataset)).version
        return read_document(store, Manifest, manifest_key(dataset, version))
    except ObjectMissing as error:
        problem = f"has no version {version}" if version else "has no version yet"
        advice = f"upload pictures to uploads/{dataset}/ and run ingest-upload"
        raise DatasetUnusable(dataset, f"{problem}; {advice}") from error


def ingest(store: Store, dataset: str, spec: IngestSpec) -> tuple[Manifest, tuple[Refusal, ...]]:
    """Make a version of all that was uploaded; the same uploads give the same version.

    Raises:
        DatasetUnusable: there is no upload, or none that can be used; nothing is written but the quarantine.
    """
    prefix = f"uploads/{dataset}/"
    keys = list(store.list(prefix))
    names = [key for key in keys if PurePosixPath(key).suffix.lower() in SUFFIXES]
    if not names:
        raise DatasetUnusable(dataset, f"{store.url}/{prefix} holds no picture ({', '.join(SUFFIXES)}); upload some")
    items: dict[str, Item] = {}
    refusals = []
    for key in names:
        outcome = _take(store, dataset, key, set(keys), spec)
        if isinstance(outcome, Refusal):
            refusals.append(outcome)
        else:
            items.setdefault(outcome.sha256, outcome)
    if not items:
        raise DatasetUnusable(dataset, f"none of its {len(names)} pictures can be used; first: {refusals[0].reason}")
    manifest = _publish(store, dataset, tuple(items[sha] for sha in sorted(items)))
    store.write(_head_key(dataset), render(Head(version=manifest.version)))
    return manifest, tuple(refusals)


def _take(store: Store, dataset: str, key: str, keys: set[str], spec: IngestSpec) -> Item | Refusal:
    """Put one upload into the blobs or the quarantine."""
    data = store.read(key)
    sha = hashlib.sha256(data).hexdigest()
    name = PurePosixPath(key).name
    try:
        decode(name, data, spec)
        caption = _caption(store, key, keys, spec)
    except PictureRefused as refused:
        refusal = Refusal(dataset=dataset, sha256=sha, name=name, reason=refused.reason, time=clock.now())
        store.write(f"quarantine/{dataset}/{sha}.json", render(refusal))
        return refusal
    if not store.exists(f"blobs/{sha}"):
        store.write(f"blobs/{sha}", data)
    return Item(sha256=sha, caption=caption, name=name)


def _caption(store: Store, key: str, keys: set[str], spec: IngestSpec) -> str:
    beside = str(PurePosixPath(key).with_suffix(".txt"))
    if beside not in keys:
        return spec.instance_prompt
    try:
        return " ".join(store.read(beside).decode().split()) or spec.instance_prompt
    except UnicodeDecodeError as error:
        raise PictureRefused(PurePosixPath(key).name, f"its caption file is not UTF-8 text: {error}") from error


def _publish(store: Store, dataset: str, items: tuple[Item, ...]) -> Manifest:
    version = digest(*(f"{i.sha256} {i.caption}" for i in items))
    keys = [key for key in store.list(f"datasets/{dataset}/") if key.endswith("/manifest.json")]
    earlier = [read_document(store, Manifest, key) for key in keys]
    for manifest in earlier:
        if manifest.version == version:
            return manifest
    known = {item.sha256 for manifest in earlier for item in manifest.items}
    new = sum(item.sha256 not in known for item in items)
    manifest = Manifest(dataset=dataset, version=version, created=clock.now(), items=items, new=new)
    try:
        store.create(manifest_key(dataset, version), render(manifest))
    except ObjectExists:
        return read_document(store, Manifest, manifest_key(dataset, version))
    return manifest


def pictures_since(store: Store, manifest: Manifest, version: str) -> int:
    """How many pictures of `manifest` an older version (none if empty) does not have."""
    if not version:
        return len(manifest.items)
    old = {item.sha256 for item in load_manifest(store, manifest.dataset, version).items}
    return sum(item.sha256 not in old for item in manifest.items)


def blobs(store: Store, dataset: str, items: tuple[Item, ...]) -> Iterator[tuple[Item, bytes]]:
    """The pictures of a version; raises DatasetUnusable when a blob is not what its name says."""
    for item in items:
        data = store.read(f"blobs/{item.sha256}")
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise DatasetUnusable(dataset, f"blob {item.sha256} ({item.name}) is damaged; upload it again")
        yield item, data


def split(manifest: Manifest) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Items to train on and items held out: about a tenth, a function of the content's hash."""
    held = tuple(item for item in manifest.items if int(item.sha256[:8], 16) % 10 == 0)
    if len(held) < 4:
        return manifest.items, manifest.items
    return tuple(item for item in manifest.items if item not in held), held
