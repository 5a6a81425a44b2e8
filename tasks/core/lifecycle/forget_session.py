"""Forgets a session: its lines in the logs, what was derived of them, and its prompts where they are quoted.

Every step can be repeated. The lines go last, since by them the rest is found; the hours they were in are recorded
before, so that a call that was killed is finished by the next one for the model, whichever session it is for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from tasks.core.lifecycle.quotes import Quotes, redact_evaluations, redact_references, redact_reports
from tasks.core.monitoring.embeddings import embedding_folder
from tasks.core.monitoring.log_cache import hour_files, hour_name, state_folder
from tasks.core.store import Store
from tasks.core.store.documents import Document, read_document, render
from tasks.core.traffic.redaction import redact
from tasks.core.traffic.session_lines import Traces, find_traces, remove_lines


class ForgottenHours(Document):
    """Hours whose lines are being taken out, and whose caches are to be deleted then."""

    hours: tuple[datetime, ...]


@dataclass(frozen=True)
class Forgotten:
    """What was done.

    `evaluations` and `reports` are the keys of results and drift records that had quoted the session: what MLflow's
    runs and Prefect's parameters and artifacts hold of these is to be deleted there. `damaged` objects of the logs
    could not be read and may hold lines of it.
    """

    lines: int
    hours: tuple[datetime, ...]
    reports: tuple[str, ...]
    references: tuple[str, ...]
    evaluations: tuple[str, ...]
    damaged: tuple[str, ...]


def forget_session(store: Store, model: str, session: str = "", requests: Sequence[str] = ()) -> Forgotten:
    """Forget a session of a model, by the hash in its lines, or some of its requests.

    A prompt that others have sent too is theirs as well, and stays where it is quoted. What still waits in a
    storefront's spool, and what a running check has read, comes later: call it again then. The reference keeps the
    embeddings of its rows, without their texts.
    """
    traces = find_traces(store, model, session, requests)
    _record_hours(store, model, traces)
    quotes = Quotes.of({*traces.texts, *map(redact, traces.texts)}, traces.words)
    reports, references = redact_reports(store, model, quotes), redact_references(store, model, quotes)
    evaluations = redact_evaluations(store, model, quotes)
    lines = remove_lines(store, traces)
    hours = _delete_caches(store, model)
    return Forgotten(lines, hours, reports, references, evaluations, tuple(traces.damaged))


def _place(model: str) -> str:
    return f"models/{model}/forgetting/"


def _record_hours(store: Store, model: str, traces: Traces) -> None:
    if traces.places:
        hours = tuple(sorted({hour for _, hour in traces.places}))
        store.create(f"{_place(model)}{uuid4().hex}.json", render(ForgottenHours(hours=hours)))


def _delete_caches(store: Store, model: str) -> tuple[datetime, ...]:
    """Delete what was derived from the recorded hours; returns these."""
    pending = list(store.list(_place(model)))
    hours = sorted({hour for key in pending for hour in read_document(store, ForgottenHours, key).hours})
    names = set(map(hour_name, hours))
    derived = [
        *(key for key in store.list(hour_files(model)) if _name(key)[: len("2026-03-20T12")] in names),
        *(key for key in store.list(state_folder(model)) if _name(key)[: len("2026-03-20T12")] in names),
        *(key for key in store.list(embedding_folder(model)) if key.split("/")[-2] in names),
    ]
    store.purge(derived)
    store.delete_many(pending)
    return tuple(hours)


def _name(key: str) -> str:
    return key.rpartition("/")[2]
