"""The prompt log: the requests to the storefront.

Lines are written at least once and deduplicated by request_id on read.
"""

import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from tasks.core.store import Store
from tasks.core.traffic.hourly import Line, append_lines, list_hours, parse_lines, read_span
from tasks.core.traffic.redaction import redact

__all__ = [
    "PromptLine",
    "demand",
    "hash_session",
    "log_hours",
    "log_prefix",
    "once",
    "read_lines",
    "read_objects",
    "redact",
    "write_lines",
]


class PromptLine(Line):
    """One request."""

    prompt: str
    seed: int
    size: int
    steps: int
    release: str
    adapter: str
    route: Literal["champion", "canary", "shadow"] = "champion"
    latency_s: float
    flagged: bool = False
    session: str
    picture: int = 0  # its place among those of its request
    retry: int = 0  # how often the client had already sent the request


def hash_session(session: str, key: str) -> str:
    """A keyed hash (HMAC-SHA256, 16 digits) that stands for the visitor."""
    return hmac.new(key.encode(), session.encode(), hashlib.sha256).hexdigest()[:16]


def write_lines(store: Store, model: str, lines: Iterable[PromptLine]) -> None:
    """Append lines: one compressed object for each hour they fall in."""
    append_lines(store, log_prefix(model), lines)


def log_prefix(model: str) -> str:
    """The place of a model's prompt log."""
    return f"prompts/{model}/"


def log_hours(store: Store, model: str, start: datetime, end: datetime) -> dict[datetime, list[str]]:
    """The keys of the log's objects by the hour they are about, for all hours that meet start <= time < end."""
    return list_hours(store, log_prefix(model), start, end)


def read_objects(store: Store, keys: Iterable[str]) -> list[PromptLine]:
    """The lines of some of the log's objects; each request once, in the order of time."""
    return once(line for key in keys for line in parse_lines(PromptLine, store.read(key), key))


def once(lines: Iterable[PromptLine]) -> list[PromptLine]:
    """Each request once, in the order of time: a line may be written more than once, and late."""
    found: dict[str, PromptLine] = {}
    for line in lines:
        found.setdefault(line.request_id, line)
    return sorted(found.values(), key=lambda line: (line.time, line.request_id))


def demand(lines: Iterable[PromptLine]) -> list[PromptLine]:
    """Each request once, however many pictures it was for; a client's own retry only if what it repeats is not there.

    Such a retry follows a response that was refused or lost. Lines come in the order of time.
    """
    found: list[PromptLine] = []
    asked = set[tuple[str, str]]()
    for line in lines:
        if not line.picture and not (line.retry and (line.session, line.prompt) in asked):
            found.append(line)
        asked.add((line.session, line.prompt))
    return found


def read_lines(store: Store, model: str, start: datetime, end: datetime) -> list[PromptLine]:
    """The lines with start <= time < end, each request once, in the order of time."""
    return once(read_span(store, PromptLine, log_prefix(model), start, end))
