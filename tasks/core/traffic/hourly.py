"""Append-only logs in the store: a compressed object of JSON lines for each write and hour.

Lines are written at least once; readers drop duplicates.
"""

import gzip
import re
import uuid
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import AwareDatetime

from tasks.core.errors import DocumentInvalid, ObjectMissing
from tasks.core.store import Store
from tasks.core.store.documents import Document, parse

HOUR = timedelta(hours=1)
LONG = timedelta(days=60)  # from which on the whole log is listed at once, not day by day
MONTH = len("dt=2026-03")
TRIES = 10  # how often an hour is listed again
SUFFIX = ".jsonl.gz"


class Line(Document):
    """What happened to a request, and when."""

    request_id: str
    model: str = ""
    time: AwareDatetime


L = TypeVar("L", bound=Line)
T = TypeVar("T")


def append_lines(store: Store, prefix: str, lines: Iterable[Line]) -> None:
    """Append lines to the log under a prefix: one compressed object for each hour they fall in."""
    hours: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        hours[hour_prefix(prefix, line.time)].append(line)
    for place, members in hours.items():
        text = "".join(line.model_dump_json() + "\n" for line in members)
        store.create(f"{place}{uuid.uuid4().hex}{SUFFIX}", gzip.compress(text.encode()))


def list_hours(store: Store, prefix: str, start: datetime, end: datetime) -> dict[datetime, list[str]]:
    """The keys of a log's objects by the hour they are about, for all hours that meet start <= time < end."""
    first, last = start.astimezone(UTC).date(), end.astimezone(UTC).date()
    days = [first + timedelta(days=day) for day in range((last - first).days + 1)] if end - start < LONG else []
    hours: dict[datetime, list[str]] = {}
    for place in [f"{prefix}dt={day:%Y-%m-%d}/" for day in days] or [prefix]:
        hours |= _listed_hours(store, prefix, place, start, end)
    return dict(sorted(hours.items()))


def newest_hours(store: Store, prefix: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, list[str]]]:
    """Yield what `list_hours` returns, the newest hour first; a month is listed when it is reached."""
    months = {day[:MONTH] for day in store.folders(prefix) if day.startswith("dt=")}
    for month in sorted(months, reverse=True):
        if f"{start.astimezone(UTC):dt=%Y-%m}" <= month <= f"{end.astimezone(UTC):dt=%Y-%m}":
            yield from sorted(_listed_hours(store, prefix, prefix + month, start, end).items(), reverse=True)


def read_span(store: Store, kind: type[L], prefix: str, start: datetime, end: datetime) -> Iterator[L]:
    """The lines of a log with start <= time < end, hour by hour; what was written twice comes twice."""

    def read(keys: list[str]) -> list[L]:
        return [line for key in keys for line in parse_lines(kind, store.read(key), key)]

    for hour, keys in list_hours(store, prefix, start, end).items():
        yield from (line for line in read_hour(store, prefix, hour, keys, read) if start <= line.time < end)


def read_hour(store: Store, prefix: str, hour: datetime, keys: list[str], read: Callable[[list[str]], T]) -> T:
    """What `read` makes of an hour's objects.

    They are listed again if one is gone meanwhile: where it was replaced, its lines are in another.
    """
    for _ in range(TRIES):
        try:
            return read(keys)
        except ObjectMissing:
            keys = list(store.list(hour_prefix(prefix, hour)))
    return read(keys)


def hour_prefix(prefix: str, hour: datetime) -> str:
    """The place of an hour's objects in a log."""
    return f"{prefix}{hour.astimezone(UTC):dt=%Y-%m-%d/hour=%H}/"


def _listed_hours(store: Store, prefix: str, place: str, start: datetime, end: datetime) -> dict[datetime, list[str]]:
    """The keys in a place of the log by their hours, as far as these meet start <= time < end."""
    hours: dict[datetime, list[str]] = defaultdict(list)
    for key in store.list(place):
        if (hour := _hour_of(key.removeprefix(prefix))) and start < hour + HOUR and hour < end:
            hours[hour].append(key)
    return hours


def parse_lines(kind: type[L], data: bytes, key: str) -> Sequence[L]:
    """The lines of an object; raises DocumentInvalid."""
    return [parse(kind, line.encode(), key) for line in parse_texts(data, key)]


def parse_texts(data: bytes, key: str) -> list[str]:
    """The lines of an object as they were written; raises DocumentInvalid."""
    try:
        text = gzip.decompress(data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DocumentInvalid(key, f"is no compressed text: {error}") from error
    return [line for line in text.split("\n") if line]  # not splitlines: a prompt may hold U+2028 and its like


def _hour_of(name: str) -> datetime | None:
    found = re.match(r"dt=(\d{4}-\d\d-\d\d)/hour=(\d\d)/", name)
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}:00:00+00:00") if found else None
    except ValueError:  # no hour of any calendar
        return None
