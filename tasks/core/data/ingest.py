"""Ingest: all uploads of a dataset become a version of it, or a line of remarks; it costs what is new among them."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from tasks.core import clock
from tasks.core.config.presets import IngestSpec
from tasks.core.data.captioning import Captioned, Captioner
from tasks.core.data.captions import Captions
from tasks.core.data.dataset import Head, Item, Manifest, Refusal, head_key, manifest_key
from tasks.core.data.expectations import ExpectationsUnmet, unmet, without_trigger
from tasks.core.data.failures import IngestAttempt
from tasks.core.data.file_kinds import SUFFIXES, sort_uploads
from tasks.core.data.index import DatasetIndex, PictureEntry, read_index, with_versions, write_index
from tasks.core.data.parallel import in_order
from tasks.core.data.remarks import grouped, remark, shown
from tasks.core.data.uploads import Unread, UploadReader
from tasks.core.errors import DatasetUnusable, DocumentInvalid, ObjectExists, ObjectMissing, StoreConflict
from tasks.core.store import Store
from tasks.core.store.documents import digest, parse, read_document, render

TRIES = 10  # while other ingests of the same dataset end first

Outcome = TypeVar("Outcome", Item, Refusal)
Note = Callable[[str], None]
log = logging.getLogger("dyeworks.ingest")


def ingest(
    store: Store,
    dataset: str,
    spec: IngestSpec,
    trigger: str = "",
    note: Note = log.info,
    workers: int = 0,
    captioner: Captioner | None = None,
) -> tuple[Manifest, tuple[Refusal, ...]]:
    """Create a version of all uploads; the same uploads give the same version.

    Of several ingests at once each ends with the uploads that it has listed, and the newest version is that of the
    latest list: who finds that another has ended meanwhile begins again.

    Args:
        trigger: captions that lack it are reported.
        note: takes lines about the work that was done.
        workers: threads that read and decode; 0 for the number that suits this machine.
        captioner: makes captions for pictures without one.

    Raises:
        CaptionsMissing: the model requires captions, and they cannot be made; those that were stay known.
        DatasetUnusable: there is no upload, or none that can be used; nothing is written but that, and the quarantine.
        ExpectationsUnmet: the uploads are not what the specification expects of a version; the newest one stays.
        StoreConflict: other ingests of the dataset ended first, again and again.
    """
    with IngestAttempt(store, dataset).recorded() as attempt:
        for _ in range(TRIES - 1):
            try:
                return _ingest(attempt, spec, trigger, note, workers, captioner)
            except StoreConflict:
                note(f"dataset {dataset}: another ingest has ended meanwhile; the uploads are listed again")
        return _ingest(attempt, spec, trigger, note, workers, captioner)


def _ingest(
    attempt: IngestAttempt, spec: IngestSpec, trigger: str, note: Note, workers: int, captioner: Captioner | None
) -> tuple[Manifest, tuple[Refusal, ...]]:
    begun, store, dataset = time.monotonic(), attempt.store, attempt.dataset
    tag, current = _newest(store, dataset)  # before the uploads are listed, so that a later one is noticed
    index = read_index(store, dataset, spec)
    reader = UploadReader(store, dataset, spec, index, workers)
    attempt.listed = reader.listed
    uploads = sort_uploads(reader.listed, reader.odd())
    if not uploads.pictures:
        problem = f"{store.url}/uploads/{dataset}/ holds no picture ({', '.join(SUFFIXES)}); upload some"
        raise DatasetUnusable(dataset, "; ".join([problem, *uploads.remarks]))
    captions = Captions(reader, dataset, uploads)
    stored = {item.sha256 for item in current.items} if current else set()
    found = reader.pictures(uploads.pictures, stored, captions.faults)
    made = captioner.captions(store, dataset, _without_caption(found, captions)) if captioner else Captioned()
    outcomes = [_outcome(dataset, name, entry, captions, made, spec) for name, entry in found.items()]
    items = _plainest([item for item in outcomes if isinstance(item, Item)], captions)
    refusals = _plainest([refusal for refusal in outcomes if isinstance(refusal, Refusal)], captions)
    refusals = _quarantine(store, refusals, found, index)
    faults = _faults(outcomes, refusals)
    if not items:
        problem = f"none of its {len(uploads.pictures):,} pictures can be used"
        raise DatasetUnusable(dataset, "; ".join([problem, *faults, *uploads.remarks]))
    if lacking := unmet(spec, items.values(), len(outcomes), _unused(outcomes), trigger):
        write_index(store, dataset, _remembered(reader, captions, found, refusals, None, index))
        raise ExpectationsUnmet(dataset, [*lacking, *faults])
    index = with_versions(store, dataset, index)
    manifest = _publish(store, dataset, tuple(items[sha] for sha in sorted(items)), current, index)
    write_index(store, dataset, _remembered(reader, captions, found, refusals, manifest, index))
    lines = [*faults, *uploads.remarks, *_copies(outcomes, items, refusals, captions), *made.remarks]
    lines += _of_captions(list(items.values()), captions, spec, trigger)
    store.swap(head_key(dataset), render(Head(version=manifest.version, remarks=tuple(lines))), tag)
    counts = f"{reader.read:,} of {len(reader.listed):,} uploads were read, as they are new or were changed"
    note(f"dataset {dataset}: {counts}; {time.monotonic() - begun:.1f} s")
    if captioner and (cost := captioner.cost()):
        note(f"dataset {dataset}: {cost}")
    return manifest, tuple(refusals.values())


def _newest(store: Store, dataset: str) -> tuple[str | None, Manifest | None]:
    """The tag of the head, and the version that it names, as far as they can be read."""
    try:
        data, tag = store.read_versioned(head_key(dataset))
    except ObjectMissing:
        return None, None
    try:
        version = parse(Head, data, head_key(dataset)).version
        return tag, read_document(store, Manifest, manifest_key(dataset, version))
    except (ObjectMissing, DocumentInvalid) as error:
        log.warning("all uploads are read again: %s", error)
        return tag, None


def _outcome(
    dataset: str, name: str, entry: PictureEntry | Unread, captions: Captions, made: Captioned, spec: IngestSpec
) -> Item | Refusal | Unread:
    if isinstance(entry, Unread):
        return entry
    if reason := entry.reason or captions.faults.get(name, ""):
        return Refusal(dataset=dataset, sha256=entry.sha256, name=name, reason=reason, time=clock.now())
    own, described = captions.found.get(name, ""), made.captions.get(entry.sha256, "")
    caption, by = own or described or spec.instance_prompt, made.model if described and not own else ""
    return Item(sha256=entry.sha256, caption=caption, name=name, note=entry.note, caption_by=by)


def _without_caption(found: Mapping[str, PictureEntry | Unread], captions: Captions) -> dict[str, str]:
    """Names, by their hashes, of the pictures that are taken and have a caption under none of their names."""
    entries = {name: entry for name, entry in found.items() if isinstance(entry, PictureEntry) and not entry.reason}
    captioned = {entry.sha256 for name, entry in entries.items() if name in captions.found}
    wanted = {name: entry.sha256 for name, entry in entries.items() if name not in captions.faults}
    plainest_last = sorted(wanted, key=_plainness, reverse=True)
    return {wanted[name]: name for name in plainest_last if wanted[name] not in captioned}


def _quarantine(
    store: Store, refusals: dict[str, Refusal], found: Mapping[str, PictureEntry | Unread], index: DatasetIndex
) -> dict[str, Refusal]:
    """Write the refusals that are new; returns all of them, those that are known with their earlier time."""

    def written(refusal: Refusal) -> Refusal:
        before = index.quarantine.get(refusal.sha256)
        known = found[refusal.name] is index.pictures.get(refusal.name)
        if before and known and (before.name, before.reason) == (refusal.name, refusal.reason):
            return before
        store.write(f"quarantine/{refusal.dataset}/{refusal.sha256}.json", render(refusal))
        return refusal

    return dict(zip(refusals, in_order(written, refusals.values()), strict=True))


def _remembered(
    reader: UploadReader,
    captions: Captions,
    found: Mapping[str, PictureEntry | Unread],
    refusals: dict[str, Refusal],
    manifest: Manifest | None,
    index: DatasetIndex,
) -> DatasetIndex:
    """What the next ingest need not read."""
    pictures = reader.settled({name: entry for name, entry in found.items() if isinstance(entry, PictureEntry)})
    texts, tables = reader.settled(captions.texts), reader.settled(captions.tables)
    made = [manifest] if manifest else []
    known = {item.sha256 for one in made for item in one.items}.union(index.known)
    return DatasetIndex(
        reading=index.reading,
        pictures=pictures,
        texts=texts,
        tables=tables,
        others=reader.others(pictures, texts, tables),
        quarantine=refusals,
        versions=tuple(sorted({one.version for one in made}.union(index.versions))),
        known=tuple(sorted(known)),
    )


def _publish(
    store: Store, dataset: str, items: tuple[Item, ...], current: Manifest | None, index: DatasetIndex
) -> Manifest:
    version = digest(*(f"{i.sha256} {i.caption}" for i in items))
    if current and current.version == version:
        return current
    known = frozenset(index.known)
    new = sum(item.sha256 not in known for item in items)
    parent = current.version if current else ""
    manifest = Manifest(dataset=dataset, version=version, created=clock.now(), items=items, new=new, parent=parent)
    try:
        store.create(manifest_key(dataset, version), render(manifest))
    except ObjectExists:
        return read_document(store, Manifest, manifest_key(dataset, version))
    return manifest


def _unused(outcomes: list[Item | Refusal | Unread]) -> int:
    return sum(not isinstance(one, Item) for one in outcomes)


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
        if first.name != one.name:
            names.append(f"{one.name} (of {first.name})")
            if captions.found.get(one.name, "") not in {"", captions.found.get(first.name)}:
                unused.append(one.name)
    return [
        *remark(names, "picture", "left out as the same file as another"),
        *remark(unused, "caption", "unused, as that of the same picture under another name counts"),
    ]


def _of_captions(items: list[Item], captions: Captions, spec: IngestSpec, trigger: str) -> list[str]:
    names = sorted(item.name for item in items if item.name not in captions.found and not item.caption_by)
    lacking = without_trigger(items, trigger)
    given = f"without a caption given the instance prompt {shown(spec.instance_prompt)!r}"
    return [
        *captions.remarks(),
        *remark(names, "picture", given),
        *remark(lacking, "picture", f"with a caption that lacks the trigger {trigger!r}"),
    ]
