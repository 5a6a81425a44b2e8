"""The prompt log: what people asked the storefront for.

Lines are written at least once and deduplicated by request_id on read.
"""

import gzip
import hashlib
import hmac
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime

from tasks.core.documents import Document, parse
from tasks.core.errors import DocumentInvalid
from tasks.core.store import Store

HOUR = timedelta(hours=1)
LONG = timedelta(days=60)  # from which on the whole log is listed at once, not day by day
_PRIVATE = re.compile(
    r"[\w.+-]+[@\uff20][\w-]+(?:\.[\w-]+)*"  # mail
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b"  # addresses of machines
    r"|\+?\(?\d[\d ()./-]{6,}\d"  # telephones
)


class PromptLine(Document):
    """One request."""

    request_id: str
    time: AwareDatetime
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


def redact(prompt: str) -> str:
    """The prompt without mail addresses and telephone numbers."""
    return _PRIVATE.sub("[removed]", prompt)


def hash_session(session: str, key: str) -> str:
    """A keyed hash (HMAC-SHA256, 16 digits) that stands for the visitor."""
    return hmac.new(key.encode(), session.encode(), hashlib.sha256).hexdigest()[:16]


def write_lines(store: Store, model: str, lines: Iterable[PromptLine]) -> None:
    """Append lines: one compressed object for each hour they fall in."""
    hours: dict[str, list[PromptLine]] = defaultdict(list)
    for line in lines:
        hours[f"{line.time.astimezone(UTC):dt=%Y-%m-%d/hour=%H}"].append(line)
    for hour, members in hours.items():
        text = "".join(line.model_dump_json() + "\n" for line in members)
        store.create(f"prompts/{model}/{hour}/{uuid.uuid4().hex}.jsonl.gz", gzip.compress(text.encode()))


def log_hours(store: Store, model: str, start: datetime, end: datetime) -> dict[datetime, list[str]]:
    """The keys of the log's objects by the hour they are about, for all hours that meet start <= time < end."""
    prefix = f"prompts/{model}/"
    days = [start + timedelta(days=day) for day in range((end - start).days + 2)] if end - start < LONG else []
    prefixes = [f"{prefix}dt={day:%Y-%m-%d}/" for day in days] or [prefix]
    hours: dict[datetime, list[str]] = defaultdict(list)
    for key in (key for one in prefixes for key in store.list(one)):
        if (hour := _hour_of(key.removeprefix(prefix))) and start < hour + HOUR and hour < end:
            hours[hour].append(key)
    return dict(sorted(hours.items()))


def _hour_of(name: str) -> datetime | None:
    found = re.match(r"dt=(\d{4}-\d\d-\d\d)/hour=(\d\d)/", name)
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}:00:00+00:00") if found else None
    except ValueError:  # no hour of any calendar
        return None


def read_objects(store: Store, keys: Iterable[str]) -> list[PromptLine]:
    """The lines of some of the log's objects; each request once, in the order of time."""
    return once(line for key in keys for line in _parse(store.read(key), key))


def once(lines: Iterable[PromptLine]) -> list[PromptLine]:
    """Each request once, in the order of time: a line may be written more than once, and late."""
    found: dict[str, PromptLine] = {}
    for line in lines:
        found.setdefault(line.request_id, line)
    return sorted(found.values(), key=lambda line: (line.time, line.request_id))


def read_lines(store: Store, model: str, start: datetime, end: datetime) -> list[PromptLine]:
    """The lines with start <= time < end, each request once, in the order of time."""
    keys = [key for hour in log_hours(store, model, start, end).values() for key in hour]
    return [line for line in read_objects(store, keys) if start <= line.time < end]


def _parse(data: bytes, key: str) -> list[PromptLine]:
    try:
        text = gzip.decompress(data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DocumentInvalid(key, f"is no compressed text: {error}") from error
    lines = text.split("\n")  # not splitlines: a prompt may hold U+2028 and its like
    return [parse(PromptLine, line.encode(), key) for line in lines if line]
