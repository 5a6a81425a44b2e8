"""Dataset versions: immutable manifests over content-addressed pictures."""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePosixPath
from typing import TypeVar

from tasks.core import clock
from tasks.core.data.captions import Captions
from tasks.core.data.pictures import SUFFIXES, examine
from tasks.core.documents import Document, digest, read_document, render
from tasks.core.errors import DatasetUnusable, ObjectExists, ObjectMissing, ObjectTooLarge, PictureRefused
from tasks.core.specs import IngestSpec
from tasks.core.store import Store


class Item(Document):
    """A picture of a dataset, by the sha256 of its bytes."""

    sha256: str
    caption: str
    name: str  # where it lies under uploads/<dataset>/
    note: str = ""  # how it is changed when it is read


class Manifest(Document):
    """A dataset version; `version` is the hash of its sorted items."""

    dataset: str
    version: str
    created: datetime
    items: tuple[Item, ...]
    new: int  # pictures that no earlier version has


class Head(Document):
    """The version that the last ingest made or found again, and what there was to say of the uploads."""

    version: str
    remarks: tuple[str, ...] = ()


class Refusal(Document):
    """Why an upload is not in the dataset."""

    dataset: str
    sha256: str
    name: str
    reason: str
    time: datetime


Outcome = TypeVar("Outcome", Item, Refusal)


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


def newest_version(store: Store, dataset: str) -> str:
    """The newest version; empty before there is one."""
    try:
        return load_manifest(store, dataset).version
    except DatasetUnusable:
        return ""


def ingest(store: Store, dataset: str, spec: IngestSpec) -> tuple[Manifest, tuple[Refusal, ...]]:
    """Make a version of all that was uploaded; the same uploads give the same version.

    Raises:
        DatasetUnusable: there is no upload, or none that can be used; nothing is written but the quarantine.
    """
    prefix = f"uploads/{dataset}/"
    names = [key.removeprefix(prefix) for key in store.list(prefix)]
    pictures = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not pictures:
        raise DatasetUnusable(dataset, f"{store.url}/{prefix} holds no picture ({', '.join(SUFFIXES)}); upload some")
    captions = Captions(store, dataset, names, pictures)
    outcomes = [_take(store, dataset, name, captions, spec) for name in pictures]
    items, refusals = _first(outcomes, Item), _first(outcomes, Refusal)
    for refusal in refusals.values():
        store.write(f"quarantine/{dataset}/{refusal.sha256}.json", render(refusal))
    if not items:
        reason = next(iter(refusals.values())).reason
        raise DatasetUnusable(dataset, f"none of its {len(pictures)} pictures can be used; first: {reason}")
    manifest = _publish(store, dataset, tuple(items[sha] for sha in sorted(items)))
    head = Head(version=manifest.version, remarks=(*_copies(outcomes, items, refusals), *captions.remarks))
    store.write(_head_key(dataset), render(head))
    return manifest, tuple(refusals.values())


def remarks(store: Store, manifest: Manifest) -> list[str]:
    """What to tell of the last ingest's uploads: how pictures are changed, which are copies, idle captions."""
    changed = sorted(f"{item.name}: {item.note}" for item in manifest.items if item.note)
    return changed + list(read_document(store, Head, _head_key(manifest.dataset)).remarks)


def _take(store: Store, dataset: str, name: str, captions: Captions, spec: IngestSpec) -> Item | Refusal:
    """Put one upload into the blobs, unless it is refused."""
    try:
        data = store.read_within(f"uploads/{dataset}/{name}", spec.max_bytes)
    except ObjectTooLarge as large:
        reason = f"has {large.size} bytes, more than {spec.max_bytes}; save it smaller, or raise ingest.max_bytes"
        return Refusal(dataset=dataset, sha256=_unread(name), name=name, reason=reason, time=clock.now())
    sha = hashlib.sha256(data).hexdigest()
    try:
        note = examine(name, data, spec)
        caption = captions.of(name) or spec.instance_prompt
    except PictureRefused as refused:
        return Refusal(dataset=dataset, sha256=sha, name=name, reason=refused.reason, time=clock.now())
    if not store.exists(f"blobs/{sha}"):
        store.write(f"blobs/{sha}", data)
    return Item(sha256=sha, caption=caption, name=name, note=note)


def _unread(name: str) -> str:
    """What stands for the hash of a file that is not read: that of its name."""
    return hashlib.sha256(name.encode()).hexdigest()


def _first(outcomes: list[Item | Refusal], kind: type[Outcome]) -> dict[str, Outcome]:
    """The outcomes of a kind by the picture's hash; of copies the first by name."""
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        if isinstance(outcome, kind):
            found.setdefault(outcome.sha256, outcome)
    return found


def _copies(outcomes: list[Item | Refusal], items: dict[str, Item], refusals: dict[str, Refusal]) -> Iterator[str]:
    for outcome in outcomes:
        first = (items if isinstance(outcome, Item) else refusals)[outcome.sha256]
        if first is not outcome:
            yield f"{outcome.name}: the same file as {first.name}, which stands for both"


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


def is_held(sha256: str) -> bool:
    """Whether a picture is held out: about a tenth are, by their content alone."""
    return int(sha256[:8], 16) % 10 == 0


def split(manifest: Manifest) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Items to train on and items held out: about a tenth, a function of the content's hash."""
    held = tuple(item for item in manifest.items if is_held(item.sha256))
    if len(held) < 4:
        return manifest.items, manifest.items
    return tuple(item for item in manifest.items if item not in held), held
