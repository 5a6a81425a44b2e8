"""The record of a drift check."""

from datetime import datetime

from tasks.core.documents import Document, read_documents
from tasks.core.drift.check import DriftReport
from tasks.core.drift.explain import Topic
from tasks.core.store import Store


class DriftRecord(Document):
    """A check: what was looked at, what was found, and which prompts are new."""

    key: str
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
    coverage_reference: float | None = None  # median cosine of the reference's prompts to their nearest captions
    unreadable: tuple[str, ...] = ()  # damaged objects of the prompt log, which were left out


def read_records(store: Store, model: str) -> list[DriftRecord]:
    """All checks, oldest first."""
    return sorted(read_documents(store, DriftRecord, f"drift/{model}/reports/"), key=lambda r: r.time)
