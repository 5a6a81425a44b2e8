"""The record of a drift check."""

from datetime import datetime

from tasks.core.drift.detector import DriftReport
from tasks.core.drift.explain import Topic
from tasks.core.store import Store
from tasks.core.store.documents import Document, read_document


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


def read_records(store: Store, model: str, newest: int | None = None) -> list[DriftRecord]:
    """All checks or the newest, oldest first; their keys are in the order of time."""
    keys = [key for key in store.list(f"models/{model}/drift/reports/") if key.endswith("/report.json")]
    chosen = keys if newest is None else keys[-newest:]
    return sorted((read_document(store, DriftRecord, key) for key in chosen), key=lambda r: r.time)
