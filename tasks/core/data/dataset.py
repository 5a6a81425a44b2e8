"""Dataset versions: immutable manifests over content-addressed pictures."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from PIL import Image

from tasks.core import clock
from tasks.core.config.presets import IngestSpec
from tasks.core.data.captions import Captions
from tasks.core.data.file_kinds import sort_uploads
from tasks.core.data.picture_validation import SUFFIXES, decode, examine
from tasks.core.data.remarks import grouped, remark, shown
from tasks.core.errors import (
    DatasetUnusable,
    ObjectExists,
    ObjectMissing,
    ObjectTooLarge,
    ObjectUnreadable,
    PictureRefused,
)
from tasks.core.store import Store
from tasks.core.store.documents import Document, digest, parse, read_document, render, revised


class Item(Document):
    """A picture of a dataset, by the sha256 of its bytes."""

    sha256: str
    caption: str
    name: str  # where it lies under uploads/<dataset>/
    note: str = ""  # how `decode` changes it


class Manifest(Document):
    """A dataset version; `version` is the hash of its sorted items."""

    dataset: str
    version: str
    created: datetime
    items: tuple[Item, ...]
    new: int  # pictures that no earlier version has
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


@dataclass(frozen=True)
class Unread:
    """An upload that is listed but cannot be read."""

    name: str
    reason: str


ANY = IngestSpec(min_side=8, max_pixels=sys.maxsize)  # limits were checked on ingest
Outcome = TypeVar("Outcome", Item, Refusal)


def manifest_key(dataset: str, version: str) -> str:
    """Key of a version's manifest."""
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


def ingest(store: Store, dataset: str, spec: IngestSpec, trigger: str = "") -> tuple[Manifest, tuple[Refusal, ...]]:
    """Create a version of all uploads; the same uploads give the same version.

    Args:
        trigger: captions that lack it are reported.

    Raises:
        DatasetUnusable: there is no upload, or none that can be used; nothing is written but the quarantine.
    """
    prefix = f"uploads/{dataset}/"
    names, odd = ([key.removeprefix(prefix) for key in keys] for keys in (store.list(prefix), store.list_odd(prefix)))
    uploads = sort_uploads(names, odd)
    if not uploads.pictures:
        problem = f"{store.url}/{prefix} holds no picture ({', '.join(SUFFIXES)}); upload some"
        raise DatasetUnusable(dataset, "; ".join([problem, *uploads.remarks]))
    captions = Captions(store, dataset, uploads)
    outcomes = [_take(store, dataset, name, captions, spec) for name in uploads.pictures]
    items = _plainest([item for item in outcomes if isinstance(item, Item)], captions)
    refusals = _plainest([refusal for refusal in outcomes if isinstance(refusal, Refusal)], captions)
    for refusal in refusals.values():
        store.write(f"quarantine/{dataset}/{refusal.sha256}.json", render(refusal))
    faults = _faults(outcomes, refusals)
    if not items:
        problem = f"none of its {len(uploads.pictures):,} pictures can be used"
        raise DatasetUnusable(dataset, "; ".join([problem, *faults, *uploads.remarks]))
    manifest = _publish(store, dataset, tuple(items[sha] for sha in sorted(items)))
    lines = [*faults, *uploads.remarks, *_copies(outcomes, items, refusals, captions)]
    lines += _of_captions(list(items.values()), captions, spec, trigger)
    store.write(_head_key(dataset), render(Head(version=manifest.version, remarks=tuple(lines))))
    return manifest, tuple(refusals.values())


def remarks(store: Store, manifest: Manifest) -> list[str]:
    """What the last ingest refused, left out, changed or did not use: a line for each kind."""
    changes = sorted((item.name, item.note) for item in manifest.items if item.note)
    head = read_document(store, Head, _head_key(manifest.dataset))
    return [*head.remarks, *grouped(changes, "picture", "changed")]


def _take(store: Store, dataset: str, name: str, captions: Captions, spec: IngestSpec) -> Item | Refusal | Unread:
    """Store one upload as a blob, unless it is refused."""
    try:
        data = store.read_within(f"uploads/{dataset}/{name}", spec.max_bytes)
    except ObjectMissing:
        return Unread(name, "was removed, or is a link to nothing")
    except ObjectUnreadable as error:
        return Unread(name, error.problem)
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
    """Replaces the hash of a file that is not read: the hash of its name."""
    return hashlib.sha256(name.encode()).hexdigest()


def _plainest(outcomes: list[Outcome], captions: Captions) -> dict[str, Outcome]:
    """Outcomes by the picture's hash; of copies that with a caption of its own, else that with the plainest name."""
    found: dict[str, Outcome] = {}
    for outcome in sorted(outcomes, key=lambda one: (one.name not in captions.found, *_plainness(one.name))):
        found.setdefault(outcome.sha256, outcome)
    return found


def _plainness(name: str) -> tuple[int, int, str]:
    return name.count("/"), len(name), name


def _faults(outcomes: list[Item | Refusal | Unread], refusals: dict[str, Refusal]) -> list[str]:
    unread = ((one.name, one.reason) for one in outcomes if isinstance(one, Unread))
    refused = sorted((refusal.name, refusal.reason) for refusal in refusals.values())
    return grouped(refused, "picture", "refused") + grouped(unread, "picture", "left out that could not be read")


def _copies(
    outcomes: list[Item | Refusal | Unread], items: dict[str, Item], refusals: dict[str, Refusal], captions: Captions
) -> list[str]:
    names, unused = [], []
    for one in outcomes:
        if isinstance(one, Unread):
            continue
        first = items[one.sha256] if isinstance(one, Item) else refusals[one.sha256]
        if first is not one:
            names.append(f"{one.name} (of {first.name})")
            if captions.found.get(one.name, "") not in {"", captions.found.get(first.name)}:
                unused.append(one.name)
    return [
        *remark(names, "picture", "left out as the same file as another"),
        *remark(unused, "caption", "unused, as that of the same picture under another name counts"),
    ]


def _of_captions(items: list[Item], captions: Captions, spec: IngestSpec, trigger: str) -> list[str]:
    names = sorted(item.name for item in items if item.name not in captions.found)
    lacking = sorted(item.name for item in items if trigger.casefold() not in item.caption.casefold())
    given = f"without a caption given the instance prompt {shown(spec.instance_prompt)!r}"
    return [
        *captions.remarks(),
        *remark(names, "picture", given),
        *remark(lacking, "picture", f"with a caption that lacks the trigger {trigger!r}"),
    ]


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


def forget_item(store: Store, dataset: str, version: str, sha256: str) -> None:
    """Remove a picture from a version, which keeps its name; an ingest makes the remarks, which may name it, again."""
    key = manifest_key(dataset, version)
    written = store.read(key)
    manifest = parse(Manifest, written, key)
    items = tuple(item for item in manifest.items if item.sha256 != sha256)
    gone = len(manifest.items) - len(items)
    changed = manifest.model_copy(update={"items": items, "forgotten": manifest.forgotten + gone})
    with suppress(ObjectMissing):
        head = read_document(store, Head, _head_key(dataset))
        store.write(_head_key(dataset), render(head.model_copy(update={"remarks": ()})))
    store.write(key, revised(written, changed))
    store.purge([key, _head_key(dataset)], earlier=True)


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
            raise DatasetUnusable(dataset, f"blob {item.sha256} ({item.name}) is damaged; upload it again")
        yield item, data


def decoded(store: Store, dataset: str, items: Iterable[Item]) -> Iterator[tuple[Item, Image.Image]]:
    """The pictures of a version in RGB, one in memory at a time; raises DatasetUnusable as `blobs` does."""
    return ((item, decode(item.name, data, ANY)) for item, data in blobs(store, dataset, items))
