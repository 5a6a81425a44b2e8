"""The references of the generations: fitted on the traffic they were promoted on, frozen, inspected, pinned."""

import hashlib
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from tasks.core import clock
from tasks.core.config.presets import MonitorSpec
from tasks.core.drift import DriftProfile, fit_profile
from tasks.core.drift.errors import ProfileUnusable, ReferenceTooSmall
from tasks.core.drift.rows import Ints
from tasks.core.errors import ObjectExists, ObjectMissing, ProfileMissing, ReferenceForeign
from tasks.core.monitoring.embeddings import EmbeddingCache, Encode
from tasks.core.monitoring.log_cache import newest_lines
from tasks.core.registry.ledger import Entry, profile_generation
from tasks.core.store import Store
from tasks.core.store.documents import Document, read_document, read_documents, render
from tasks.core.traffic.prompt_log import PromptLine

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
MOST_REFERENCE = 20_000  # lines, the newest
FEWEST_BLOCKS = 6  # below which blocks of sessions are replayed instead


class ReferenceRecord(Document):
    """A frozen profile, whose arrays are under `arrays`; written last."""

    generation: int
    encoder: str
    begin: datetime
    end: datetime
    rows: int
    phi: float
    fitted: datetime
    arrays: str


class Pin(Document):
    """An operator's choice of the profile that the monitor compares with."""

    generation: int  # 0: none is pinned
    actor: str
    reason: str
    time: datetime


def _prefix(model: str) -> str:
    return f"models/{model}/drift/profiles/"


def record_folder(model: str) -> str:
    """The place of the records of the frozen profiles, by generation."""
    return f"{_prefix(model)}frozen/"


def array_folder(model: str) -> str:
    """The place of their arrays."""
    return f"{_prefix(model)}arrays/"


def _name(encoder: str) -> str:
    return hashlib.sha256(encoder.encode()).hexdigest()[:16]


def reference_records(store: Store, model: str) -> list[ReferenceRecord]:
    """All frozen profiles, by generation."""
    return _records(store, model)


def _records(store: Store, model: str, generation: str = "") -> list[ReferenceRecord]:
    found = read_documents(store, ReferenceRecord, f"{record_folder(model)}{generation}")
    return sorted(found, key=lambda record: (record.generation, record.fitted))


def read_pin(store: Store, model: str) -> Pin | None:
    """The active pin."""
    try:
        pin = read_document(store, Pin, f"{_prefix(model)}pin.json")
    except ObjectMissing:
        return None
    return pin if pin.generation else None


def pin_profile(store: Store, model: str, generation: int, actor: str, reason: str) -> None:
    """Compare with this generation's profile from now on (0: with the champion's); raises `ProfileMissing`."""
    if generation and not _records(store, model, f"{generation:06d}-"):
        raise ProfileMissing(generation, model)
    pin = Pin(generation=generation, actor=actor, reason=reason, time=clock.now())
    store.write(f"{_prefix(model)}pin.json", render(pin))


def generation_in_force(store: Store, model: str, entries: list[Entry]) -> int:
    """The generation whose reference is active: the pinned one, or the champion's."""
    pin = read_pin(store, model)
    return pin.generation if pin else profile_generation(entries)


def find_record(store: Store, model: str, generation: int, encoder: str) -> ReferenceRecord | None:
    """The frozen profile of a generation; raises `ReferenceForeign` if it has only some of other encoders."""
    mine = _records(store, model, f"{generation:06d}-")
    found = next((record for record in mine if record.encoder == encoder), None)
    if found is None and mine:
        raise ReferenceForeign(generation, mine[-1].encoder, encoder)
    return found


def load_profile(store: Store, record: ReferenceRecord) -> DriftProfile:
    """The profile of a record; raises `ProfileUnusable`."""
    profile = read_profile(store, record.arrays)
    if profile.digest not in record.arrays:
        raise ProfileUnusable(record.arrays, "its hash differs from that of the frozen profile")
    return profile


def read_profile(store: Store, key: str) -> DriftProfile:
    """The profile of some arrays; raises `ProfileUnusable`."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "profile.safetensors"
        path.write_bytes(store.read(key))
        try:
            return DriftProfile.load(path)
        except ProfileUnusable as error:
            raise ProfileUnusable(key, error.problem) from error


def write_profile(store: Store, key: str, profile: DriftProfile) -> None:
    """Write the arrays of a profile."""
    with tempfile.TemporaryDirectory() as place:
        profile.save(Path(place) / "profile.safetensors")
        store.write(key, (Path(place) / "profile.safetensors").read_bytes())


def array_key(model: str, generation: int, profile: DriftProfile) -> str:
    """The key of the arrays of a profile, which names them by their content."""
    return f"{array_folder(model)}{generation:06d}-{profile.digest}.safetensors"


def has_enough_traffic(profile: DriftProfile, lines: list[PromptLine], spec: MonitorSpec) -> bool:
    """Whether a reference may be frozen: enough requests, over enough time."""
    span = lines[-1].time - lines[0].time
    return not profile.card.provisional and span >= timedelta(hours=spec.reference_hours)


def reference_lines(store: Store, model: str, begin: datetime, end: datetime) -> list[PromptLine]:
    """The lines that a reference is fitted on."""
    return newest_lines(store, model, begin, end, MOST_REFERENCE)


def reference_begin(entries: list[Entry], generation: int) -> datetime:
    """Start of the traffic that the generation was promoted on."""
    return next(entry for entry in entries if entry.generation == generation).traffic_from or BEGINNING


def fit(lines: list[PromptLine], cache: EmbeddingCache, encode: Encode, spec: MonitorSpec) -> DriftProfile | None:
    """A profile of these lines; None if there are too few.

    Blocks are two windows long: the half that is only scored is as large as a window.
    """
    if not lines:
        return None
    texts = [line.prompt for line in lines]
    seconds = 2 * 3600 * spec.window_hours
    blocks = np.array([int(line.time.timestamp() // seconds) for line in lines], dtype=np.int64)
    try:
        return fit_profile(
            cache.embed(lines, encode),
            groups=session_groups(lines),
            blocks=blocks if len(np.unique(blocks)) >= FEWEST_BLOCKS else None,
            texts=texts,
            spec=spec.drift,
            encoder=cache.encoder,
        )
    except ReferenceTooSmall:
        return None


def freeze(
    store: Store, model: str, profile: DriftProfile, generation: int, span: tuple[datetime, datetime]
) -> tuple[DriftProfile, ReferenceRecord]:
    """Store a profile for good; if another monitor was first, its profile is the active one."""
    arrays = array_key(model, generation, profile)
    write_profile(store, arrays, profile)
    record = ReferenceRecord(
        generation=generation,
        encoder=profile.card.encoder,
        begin=span[0],
        end=span[1],
        rows=profile.card.rows_a + profile.card.rows_b,
        phi=profile.card.phi,
        fitted=clock.now(),
        arrays=arrays,
    )
    key = f"{record_folder(model)}{generation:06d}-{_name(profile.card.encoder)}.json"
    try:
        store.create(key, render(record))
    except ObjectExists:
        record = read_document(store, ReferenceRecord, key)
        return load_profile(store, record), record
    return profile, record


def refit(
    store: Store,
    model: str,
    spec: MonitorSpec,
    cache: EmbeddingCache,
    encode: Encode,
    entries: list[Entry],
) -> ReferenceRecord:
    """Embed the active reference again with the encoder of the cache, over the same period.

    Raises:
        ProfileMissing: nothing was frozen yet; the next checks fit with the new encoder.
    """
    generation = generation_in_force(store, model, entries) if entries else 0
    mine = _records(store, model, f"{generation:06d}-")
    if not mine:
        raise ProfileMissing(generation, model)
    span = mine[0].begin, mine[0].end
    profile = fit(reference_lines(store, model, *span), cache, encode, spec)
    if profile is None or profile.card.provisional:
        rows = profile.card.rows_a + profile.card.rows_b if profile else 0
        raise ReferenceTooSmall(rows, spec.drift.min_reference)
    return freeze(store, model, profile, generation, span)[1]


def session_groups(lines: list[PromptLine]) -> Ints:
    """A number for each session, int64 [n], the same in all processes."""
    return np.array([int(hashlib.sha256(line.session.encode()).hexdigest()[:15], 16) for line in lines], np.int64)
