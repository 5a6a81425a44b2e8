"""Import of past prompts into the prompt log, so that a model has a reference from its first day."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from tasks.core.errors import HistoryUnusable
from tasks.core.store import Store
from tasks.core.store.documents import digest
from tasks.core.traffic.prompt_log import PromptLine, hash_session, write_lines
from tasks.core.traffic.redaction import redact

MOST_FAULTS = 5


class PastRequest(BaseModel):
    """A line of the file: JSON with at least the prompt and its time (ISO 8601 with a time zone)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: str = Field(min_length=1)
    time: AwareDatetime
    session: str = Field("", description="visitor; without one, every request counts as a visitor of its own")


def read_history(name: str, lines: Iterable[str]) -> list[PastRequest]:
    """All requests of a JSONL file; raises `HistoryUnusable` with the first faults, by line."""
    found, faults = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(PastRequest.model_validate_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                faults.append(f"line {number}: {'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}")
    if faults or not found:
        problem = "; ".join(faults[:MOST_FAULTS]) or "it is empty"
        raise HistoryUnusable(name, problem, len(faults))
    return found


def import_history(store: Store, model: str, key: str, past: list[PastRequest]) -> int:
    """Write the requests to the log, redacted, sessions hashed with `key`; how many. The same twice counts once."""
    write_lines(store, model, _lines(past, key))
    return len(past)


def _lines(past: list[PastRequest], key: str) -> Iterator[PromptLine]:
    seen: Counter[str] = Counter()
    for request in past:
        text = request.model_dump_json()
        seen[text] += 1
        yield PromptLine(
            request_id=digest(text, str(seen[text])),
            time=request.time.astimezone(UTC),
            prompt=redact(request.prompt),
            seed=0,
            size=0,
            steps=0,
            release="imported",
            adapter="imported",
            latency_s=0.0,
            session=hash_session(request.session or f"imported {digest(text, str(seen[text]))}", key),
        )
