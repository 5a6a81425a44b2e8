"""Append-only logs in the store: a compressed object of JSON lines for each write and hour.

Lines are written at least once; readers drop duplicates.
"""

import gzip
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import AwareDatetime

from tasks.core.errors import DocumentInvalid
from tasks.core.store import Store
from tasks.core.store.documents import Document, parse

HOUR = timedelta(hours=1)
LONG = timedelta(days=60)  # from which on the whole log is listed at once, not day by day


class Line(Document):
    """What happened to a request, and when."""

    request_id: str
    model: str = ""
    time: AwareDatetime


L = TypeVar("L", bound=Line)


def append_lines(store: Store, prefix: str, lines: Iterable[Line]) -> None:
    """Append lines to the log under a prefix: one compressed object for each hour they fall in."""
    hours: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        hours[f"{line.time.astimezone(UTC):dt=%Y-%m-%d/hour=%H}"].append(line)
    for hour, members in hours.items():
        text = "".join(line.model_dump_json() + "\n" for line in members)
        store.create(f"{prefix}{hour}/{uuid.uuid4().hex}.jsonl.gz", gzip.compress(text.encode()))


def list_hours(store: Store, prefix: str, start: datetime, end: datetime) -> dict[datetime, list[str]]:
    """The keys of a log's objects by the hour they are about, for all hours that meet start <= time < end."""
    days = [start + timedelta(days=day) for day in range((end - start).days + 2)] if end - start < LONG else []
    prefixes = [f"{prefix}dt={day:%Y-%m-%d}/" for day in days] or [prefix]
    hours: dict[datetime, list[str]] = defaultdict(list)
    for key in (key for one in prefixes for key in store.list(one)):
        if (hour := _hour_of(key.removeprefix(prefix))) and start < hour + HOUR and hour < end:
            hours[hour].append(key)
    return dict(sorted(hours.items()))


def parse_lines(kind: type[L], data: bytes, key: str) -> Sequence[L]:
    """The lines of an object; raises DocumentInvalid."""
    try:
        text = gzip.decompress(data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DocumentInvalid(key, f"is no compressed text: {error}") from error
    lines = text.split("\n")  # not splitlines: a prompt may hold U+2028 and its like
    return [parse(kind, line.encode(), key) for line in lines if line]


def _hour_of(name: str) -> datetime | None:
    found = re.match(r"dt=(\d{4}-\d\d-\d\d)/hour=(\d\d)/", name)
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}:00:00+00:00") if found else None
    except ValueError:  # no hour of any calendar
        return None
