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
from datetime import datetime
from typing import Literal

from tasks.core.documents import Document, parse
from tasks.core.errors import DocumentInvalid
from tasks.core.store import Store

_PRIVATE = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+|\+?\d[\d ()-]{6,}\d")


class PromptLine(Document):
    """One request."""

    request_id: str
    time: datetime
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
        hours[f"{line.time:dt=%Y-%m-%d/hour=%H}"].append(line)
    for hour, members in hours.items():
        text = "".join(line.model_dump_json() + "\n" for line in members)
        store.create(f"prompts/{model}/{hour}/{uuid.uuid4().hex}.jsonl.gz", gzip.compress(text.encode()))


def read_lines(store: Store, model: str, start: datetime, end: datetime) -> list[PromptLine]:
    """The lines with start <= time < end, each request once, in the order of time."""
    first, last = (f"prompts/{model}/{edge:dt=%Y-%m-%d/hour=%H}/" for edge in (start, end))
    lines: dict[str, PromptLine] = {}
    for key in store.list(f"prompts/{model}/"):
        if first <= key[: len(first)] <= last:
            for line in _parse(store.read(key), key):
                if start <= line.time < end:
                    lines.setdefault(line.request_id, line)
    return sorted(lines.values(), key=lambda line: (line.time, line.request_id))


def _parse(data: bytes, key: str) -> list[PromptLine]:
    try:
        text = gzip.decompress(data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DocumentInvalid(key, f"is no compressed text: {error}") from error
    return [parse(PromptLine, line.encode(), key) for line in text.splitlines()]
