"""Dataset versions: immutable manifests over content-addressed pictures, and how they are read."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime

from PIL import Image

from tasks.core.config.presets import IngestSpec
from tasks.core.data.picture_validation import decode
from tasks.core.data.remarks import grouped
from tasks.core.errors import DatasetUnusable, ObjectMissing, StoreConflict
from tasks.core.store import Store
from tasks.core.store.documents import Document, parse, read_document, render, revised


class Item(Document):
    """A picture of a dataset, by the sha256 of its bytes."""

    sha256: str
    caption: str
    name: str  # where it lies under uploads/<dataset>/
    note: str = ""  # how `decode` changes it
    caption_by: str = ""  # the vision model that made the caption; empty: a person, or the instance prompt


class Manifest(Document):
    """A dataset version; `version` is the hash of its sorted items."""

    dataset: str
    version: str
    created: datetime
    items: tuple[Item, ...]
    new: int  # pictures that no earlier version has
    parent: str = ""  # the version that was the newest before; empty: there was none, or it is not recorded
    forgotten: int = 0  # pictures that were removed from it on request, after it was made


class Head(Document):
    """The version that the last ingest created or found, and remarks on the uploads, a line for each kind."""

    version: str
    remarks: tuple[str, ...] = ()


class Refusal(Document):
    """Why an upload is not in the dataset."""

    dataset: str
    sha256: str
    name: str
    reason: str
    time: datetime


ANY = IngestSpec(min_side=8, max_pixels=sys.maxsize)  # limits were checked on ingest


def manifest_key(dataset: str, version: str) -> str:
    """Key of a version's manifest."""
    return f"datasets/{dataset}/{version}/manifest.json"


def head_key(dataset: str) -> str:
    """Key of the document that names the newest version."""
    return f"datasets/{dataset}/head.json"


def index_key(dataset: str) -> str:
    """Key of the index of uploads."""
    return f"datasets/{dataset}/index.json"


def captions_key(dataset: str) -> str:
    """Key of the captions that a vision model has made."""
    return f"datasets/{dataset}/captions.json"


def load_manifest(store: Store, dataset: str, version: str = "") -> Manifest:
    """A version, the newest by default; raises DatasetUnusable when there is none."""
    try:
        version = version or read_document(store, Head, head_key(dataset)).version
        return read_document(store, Manifest, manifest_key(dataset, version))
    except ObjectMissing as error:
        problem = f"has no version {version}" if version else "has no version yet"
        advice = f"upload pictures to uploads/{dataset}/ and run ingest-upload"
        raise DatasetUnusable(dataset, f"{problem}; {advice}") from error


def newest_version(store: Store, dataset: str) -> str:
    """The newest version; empty before there is one."""
    try:
        return read_document(store, Head, head_key(dataset)).version
    except ObjectMissing:
        return ""


def remarks(store: Store, manifest: Manifest) -> list[str]:
    """What the last ingest refused, left out, changed or did not use: a line for each kind."""
    changes = sorted((item.name, item.note) for item in manifest.items if item.note)
    head = read_document(store, Head, head_key(manifest.dataset))
    return [*head.remarks, *grouped(changes, "picture", "changed")]


def forget_item(store: Store, dataset: str, version: str, sha256: str) -> None:
    """Remove a picture from a version, which keeps its name; an ingest makes the remarks, which may name it, again."""
    key = manifest_key(dataset, version)
    written = store.read(key)
    manifest = parse(Manifest, written, key)
    items = tuple(item for item in manifest.items if item.sha256 != sha256)
    gone = len(manifest.items) - len(items)
    changed = manifest.model_copy(update={"items": items, "forgotten": manifest.forgotten + gone})
    _forget_remarks(store, dataset)
    store.write(key, revised(written, changed))
    store.purge([key, head_key(dataset)], earlier=True)


def _forget_remarks(store: Store, dataset: str) -> None:
    while True:
        try:
            data, tag = store.read_versioned(head_key(dataset))
        except ObjectMissing:
            return
        head = parse(Head, data, head_key(dataset)).model_copy(update={"remarks": ()})
        with suppress(StoreConflict):  # an ingest has just ended: its remarks too
            store.swap(head_key(dataset), render(head), tag)
            return


def pictures_since(store: Store, manifest: Manifest, version: str) -> int:
    """How many pictures of `manifest` an older version of its dataset (empty, or deleted: none) does not have."""
    try:
        items = load_manifest(store, manifest.dataset, version).items if version else ()
    except DatasetUnusable:
        items = ()
    old = {item.sha256 for item in items}
    return sum(item.sha256 not in old for item in manifest.items)


def blobs(store: Store, dataset: str, items: Iterable[Item]) -> Iterator[tuple[Item, bytes]]:
    """The pictures of a version; raises DatasetUnusable when a blob does not match its hash."""
    for item in items:
        data = store.read(f"blobs/{item.sha256}")
        if hashlib.sha256(data).hexdigest() != item.sha256:
            advice = f"delete it and {index_key(dataset)}, and run ingest-upload"
            raise DatasetUnusable(dataset, f"blob {item.sha256} ({item.name}) is damaged; {advice}")
        yield item, data


def decoded(store: Store, dataset: str, items: Iterable[Item]) -> Iterator[tuple[Item, Image.Image]]:
    """The pictures of a version in RGB, one in memory at a time; raises DatasetUnusable as `blobs` does."""
    return ((item, decode(item.name, data, ANY)) for item, data in blobs(store, dataset, items))
