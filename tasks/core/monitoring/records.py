"""The record of a drift check."""

from datetime import datetime

from tasks.core.drift.check import DriftReport
from tasks.core.drift.explain import Topic
from tasks.core.store import Store
from tasks.core.store.documents import Document, read_document


class DriftRecord(Document):
    """A check: what was looked at, what was found, and which prompts are new."""

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
    reference_generation: int = 0  # whose traffic the reference is; another than the champion's when one is pinned
    coverage_near: float | None = None  # cosine of a caption from which on it comes near a topic
    largest_session: float = 0.0  # share of the requests that came in one session, the largest
    advice: str = ""  # what to do where requests without sessions leave too few to judge
    unreadable: tuple[str, ...] = ()  # damaged objects of the prompt log, which were left out


def read_records(store: Store, model: str, newest: int | None = None) -> list[DriftRecord]:
    """All checks or the newest, oldest first; their keys are in the order of time."""
    keys = [key for key in store.list(f"drift/{model}/reports/") if key.endswith("/report.json")]
    chosen = keys if newest is None else keys[-newest:]
    return sorted((read_document(store, DriftRecord, key) for key in chosen), key=lambda r: r.time)
