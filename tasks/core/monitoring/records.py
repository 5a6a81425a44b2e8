"""The records of the drift checks, and one object with the newest of them."""

from contextlib import suppress
from datetime import datetime, timedelta

from tasks.core import clock
from tasks.core.drift.detector import DriftReport
from tasks.core.drift.explain import Topic
from tasks.core.errors import DocumentInvalid, ObjectMissing, StoreConflict
from tasks.core.store import Store
from tasks.core.store.documents import Document, parse, read_document, render

MOST_RECENT = 200
SPANS = (10, 100, 1000)  # days that are listed for the newest records, before all are


class DriftRecord(Document):
    """A check: its window, its result, and the prompts that are new."""

    key: str
    model: str = ""
    time: datetime
    start: datetime
    end: datetime
    generation: int
    verdict: str
    says: str
    requests: int
    reference_requests: int
    drift: DriftReport | None
    fresh: tuple[str, ...] = ()
    topics: tuple[Topic, ...] = ()
    reference_generation: int = 0  # of the reference; not the champion's if another is pinned
    coverage_near: float | None = None  # cosine from which a caption covers a topic
    largest_session: float = 0.0  # share of the requests in the largest session
    advice: str = ""  # what to do if missing sessions leave too few requests
    unreadable: tuple[str, ...] = ()  # damaged objects of the prompt log, which were skipped


class Recent(Document):
    """The newest checks, oldest first, without prompts and distributions. It can be made of the records again."""

    checks: tuple[DriftRecord, ...]


def recent_key(model: str) -> str:
    """Key of the newest checks."""
    return f"models/{model}/drift/recent.json"


def report_folder(model: str) -> str:
    """The place of all checks, each in a folder that is named by its time."""
    return f"models/{model}/drift/reports/"


def report_key(model: str, time: datetime) -> str:
    """Key of the record of a check."""
    return f"{report_folder(model)}{time:%Y%m%dT%H%M%S%f}/report.json"


def write_record(store: Store, record: DriftRecord) -> None:
    """Store a record, then add it to the newest ones, with those whose writers were killed in between."""
    store.write(record.key, render(record))
    while True:
        known, version = _read_recent(store, record.model)
        keys = _record_keys(store, record.model, known[-1].key) if known else []
        later = _read_light(store, [key for key in keys if key != record.key])
        every = {past.key: past for past in [*known, *later, without_prompts(record)]}
        newest = tuple(sorted(every.values(), key=lambda past: past.time)[-MOST_RECENT:])
        with suppress(StoreConflict):
            store.swap(recent_key(record.model), render(Recent(checks=newest)), version)
            return


def recent_records(store: Store, model: str) -> list[DriftRecord]:
    """The newest checks, oldest first, without prompts and distributions: one object."""
    return _read_recent(store, model)[0]


def without_prompts(record: DriftRecord) -> DriftRecord:
    """The record as it is among the newest ones."""
    drift = record.drift.model_copy(update={"distribution": None}) if record.drift else None
    return record.model_copy(update={"drift": drift, "topics": (), "fresh": ()})


def _read_recent(store: Store, model: str) -> tuple[list[DriftRecord], str | None]:
    """The newest checks, and the version of their object; where it is missing or damaged, the records are read."""
    version = None
    with suppress(ObjectMissing, DocumentInvalid):
        data, version = store.read_versioned(recent_key(model))
        return list(parse(Recent, data, recent_key(model)).checks), version
    return _read_light(store, _newest_keys(store, model)), version


def _read_light(store: Store, keys: list[str]) -> list[DriftRecord]:
    found = []
    for key in keys:
        with suppress(ObjectMissing):  # deleted meanwhile
            found.append(without_prompts(read_document(store, DriftRecord, key)))
    return sorted(found, key=lambda past: past.time)


def _newest_keys(store: Store, model: str) -> list[str]:
    for days in SPANS:
        keys = _record_keys(store, model, report_key(model, clock.now() - timedelta(days=days)))
        if len(keys) >= MOST_RECENT:
            return keys[-MOST_RECENT:]
    return _record_keys(store, model)[-MOST_RECENT:]


def _record_keys(store: Store, model: str, after: str = "") -> list[str]:
    return [key for key in store.list(report_folder(model), after) if key.endswith("/report.json")]


def read_records(store: Store, model: str, newest: int | None = None) -> list[DriftRecord]:
    """All checks or the newest, oldest first, each read from an object of its own: see `recent_records`."""
    keys = _record_keys(store, model)
    chosen = keys if newest is None else keys[-newest:]
    return sorted((read_document(store, DriftRecord, key) for key in chosen), key=lambda r: r.time)
