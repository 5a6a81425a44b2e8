"""Compaction of the logs: the objects of an hour that is over become one.

The one is written before the others are deleted, so no line is ever missing, and a reader that finds one of them gone
lists the hour again. Its name sorts behind theirs: whoever lists the hour page by page meanwhile still comes to it.
Lines are copied as they were written, whatever version of the software wrote them.
"""

import gzip
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from tasks.core.errors import DocumentInvalid, ObjectExists, ObjectMissing
from tasks.core.store import Store
from tasks.core.traffic.feedback import feedback_prefix
from tasks.core.traffic.hourly import HOUR, SUFFIX, list_hours, parse_texts
from tasks.core.traffic.prompt_log import log_prefix

MOST_OBJECTS = 10_000  # that a call reads
PERIOD = timedelta(days=31)  # of the hours that are looked at
MERGED = re.compile(rf"merged-(\d{{6}})-([0-9a-f]{{16}}){re.escape(SUFFIX)}$")
Plain = dict[str, Any]  # a line as JSON has it


@dataclass
class Compacted:
    """What was done: hours that now have one object, the objects it replaces, and those that cannot be read."""

    hours: int = 0
    replaced: int = 0
    damaged: list[str] = field(default_factory=list)
    complete: bool = True  # else there is more to do


def compact(store: Store, model: str, before: datetime, since: datetime | None = None) -> Compacted:
    """Compact the hours of the prompt log and of the votes that end at or before a time, the oldest first.

    Args:
        before: an hour ago, or earlier. Lines that come later still are one more object, for the next time.
        since: from when on hours are looked at; by default 31 days before `before`.
    """
    done = Compacted()
    for prefix in (log_prefix(model), feedback_prefix(model)):
        for hour, keys in list_hours(store, prefix, since or before - PERIOD, before).items():
            if hour + HOUR > before or len(keys) == 1:
                continue
            if done.replaced >= MOST_OBJECTS:
                done.complete = False
                return done
            found = merge(store, keys[:MOST_OBJECTS])
            done.complete &= len(keys) <= MOST_OBJECTS
            done.hours += 1
            done.replaced += found.deleted
            done.damaged += found.damaged
    return done


@dataclass
class Merge:
    """The lines of some objects of an hour, each once, by what it counts as; and what became of the objects."""

    texts: dict[str, str] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)  # that were read
    left_out: list[Plain] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    deleted: int = 0


def merge(store: Store, keys: Sequence[str], unwanted: Callable[[Plain], bool] = lambda _: False) -> Merge:
    """Replace the objects of an hour by one, without the lines that are unwanted; by none if no line is left.

    It deletes only what it has read, after its lines were written, so it can be killed at any moment and run beside
    itself. Damaged objects stay.
    """
    found = Merge()
    for key in keys:
        try:
            _take(found, key, store.read(key), unwanted)
        except ObjectMissing:  # merged by another meanwhile
            continue
        except DocumentInvalid:
            found.damaged.append(key)
    target = _write(store, found) if found.texts else ""
    old = [key for key in found.keys if key != target]
    if found.left_out:
        store.purge(old)
    else:
        store.delete_many(old)
    found.deleted = len(old)
    return found


def _take(found: Merge, key: str, data: bytes, unwanted: Callable[[Plain], bool]) -> None:
    """Add the lines of an object; raises DocumentInvalid."""
    lines = parsed_lines(data, key)
    found.keys.append(key)
    for text, line in lines:
        if unwanted(line):
            found.left_out.append(line)
        else:  # a request is logged once, and may have many votes
            found.texts.setdefault(str(line["request_id"]) if "prompt" in line else text, text)


def parsed_lines(data: bytes, key: str) -> list[tuple[str, Plain]]:
    """The lines of an object, as they were written and as JSON has them; raises DocumentInvalid."""
    return [(text, _parsed(text, key)) for text in parse_texts(data, key)]


def _parsed(text: str, key: str) -> Plain:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise DocumentInvalid(key, str(error)) from error
    if not isinstance(line, dict) or not {"request_id", "time"} <= line.keys():
        raise DocumentInvalid(key, "it holds what is no line of a log")
    return line


def _write(store: Store, found: Merge) -> str:
    """Write the lines as one object, unless the newest one that was read is just that; returns its key."""
    text = "".join(f"{line}\n" for line in sorted(found.texts.values(), key=_order)).encode()
    digest = sha256(text).hexdigest()[:16]
    merged = [(key, match) for key in found.keys if (match := MERGED.search(key))]
    newest, match = merged[-1] if merged else ("", None)
    if match and match[2] == digest:
        return newest
    number = int(match[1]) + 1 if match else 1
    key = f"{found.keys[0].rpartition('/')[0]}/merged-{number:06d}-{digest}{SUFFIX}"
    with suppress(ObjectExists):  # another has merged the same
        store.create(key, gzip.compress(text, mtime=0))
    return key


def _order(text: str) -> tuple[str, str]:
    return str(json.loads(text)["time"]), text
