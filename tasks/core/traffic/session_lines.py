"""The lines of one session, or of some requests, in the logs: found, and taken out."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tasks.core.errors import DocumentInvalid, ObjectMissing
from tasks.core.store import Store
from tasks.core.traffic.compaction import Plain, merge, parsed_lines
from tasks.core.traffic.feedback import feedback_prefix
from tasks.core.traffic.hourly import hour_prefix, list_hours, read_hour
from tasks.core.traffic.prompt_log import log_prefix

EVER, NEVER = datetime(2000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
WORD = re.compile(r"\w\w+")
Place = tuple[str, datetime]  # an hour of a log


@dataclass
class Traces:
    """What a session left in the logs, and the texts and words of its prompts that nobody else has used."""

    session: str = ""
    requests: set[str] = field(default_factory=set)
    lines: int = 0
    places: set[Place] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)  # objects that cannot be read: they may hold more

    def holds(self, line: Plain) -> bool:
        """Whether a line is the session's."""
        return line["request_id"] in self.requests or bool(self.session and line.get("session") == self.session)


def find_traces(store: Store, model: str, session: str = "", requests: Sequence[str] = ()) -> Traces:
    """Read both logs for the lines of a session (its hash) or of some requests; a vote goes with its picture's."""
    found = Traces(session, set(requests))
    other_texts: set[int] = set()  # hashes: there may be millions
    other_words: set[str] = set()
    for prefix in (log_prefix(model), feedback_prefix(model)):
        for hour, line in _lines(store, prefix, found.damaged):
            prompt = str(line.get("prompt", ""))
            if found.holds(line):
                found.lines += 1
                found.places.add((prefix, hour))
                found.requests.add(str(line["request_id"]))
                found.texts |= {prompt} - {""}
            else:
                other_texts.add(hash(prompt))
                other_words.update(_words(prompt))
    found.texts = {text for text in found.texts if hash(text) not in other_texts}
    found.words = {word for text in found.texts for word in _words(text)} - other_words
    return found


def remove_lines(store: Store, traces: Traces) -> int:
    """Take the lines out of the logs, hour by hour, until none is found; returns how many were found."""
    count = 0
    for prefix, hour in sorted(traces.places):
        while left_out := merge(store, list(store.list(hour_prefix(prefix, hour))), traces.holds).left_out:
            count += len(left_out)
    return count


def _lines(store: Store, prefix: str, damaged: list[str]) -> Iterator[tuple[datetime, Plain]]:
    """All lines of a log with their hours."""

    def read(keys: list[str]) -> tuple[list[Plain], list[str]]:
        lines: list[Plain] = []
        unreadable = []
        for key in keys:
            try:
                lines += [line for _, line in parsed_lines(store.read(key), key)]
            except DocumentInvalid:
                unreadable.append(key)
        return lines, unreadable

    for hour, keys in list_hours(store, prefix, EVER, NEVER).items():
        try:
            lines, unreadable = read_hour(store, prefix, hour, keys, read)
        except ObjectMissing as error:
            lines, unreadable = [], [error.key]
        damaged += unreadable
        yield from ((hour, line) for line in lines)


def _words(text: str) -> set[str]:
    """The words as topics name them."""
    return set(WORD.findall(text.lower()))
