"""New traffic: its topics, their coverage by the dataset, and a sample of their prompts."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from tasks.core.drift import DriftProfile, Explanation, Topic, explain
from tasks.core.drift.rows import Floats, Ints
from tasks.core.traffic.prompt_log import PromptLine
from tasks.core.traffic.redaction import redact

MOST_KNOWN = 500  # rows of the reference that the usual coverage is estimated on


@dataclass(frozen=True)
class WindowExplanation:
    """Topics with their coverage, a redacted sample of distinct prompts, and the coverage threshold."""

    topics: tuple[Topic, ...] = ()
    sample: tuple[str, ...] = ()
    coverage_near: float | None = None


def explain_window(
    profile: DriftProfile, rows: Floats, texts: list[str], groups: Ints, captions: Floats, sample: int
) -> WindowExplanation:
    """Explain a window, float32 [n, d], with the dataset's captions, float32 [k, d]; at most `sample` prompts."""
    found = explain(profile, rows, texts, groups=groups)
    topics = [
        topic.model_copy(update={"coverage": _nearest(centre[None], captions)})
        for topic, centre in zip(found.topics, found.centres, strict=True)
    ]
    redacted = [t.model_copy(update={"medoids": tuple(redact(m) for m in t.medoids)}) for t in topics]
    near = near_from(profile.reference[:MOST_KNOWN], captions)
    return WindowExplanation(tuple(redacted), sample_prompts(found, rows, texts, sample), near)


def _nearest(rows: Floats, captions: Floats) -> float | None:
    """The median cosine of the rows' nearest captions."""
    if not len(captions):
        return None
    return round(float(np.clip(np.median((rows @ captions.T).max(axis=1)), -1, 1)), 4)


def near_from(known: Floats, captions: Floats) -> float | None:
    """The midpoint of the median cosines to all captions and to the nearest one, over known prompts.

    Cosines of different encoders have different ranges, so there is no fixed threshold.
    """
    nearest = _nearest(known, captions)
    return None if nearest is None else round((nearest + float(np.median(known @ captions.T))) / 2, 4)


def sample_prompts(found: Explanation, rows: Floats, texts: list[str], most: int) -> tuple[str, ...]:
    """At most `most` distinct, redacted prompts, taken from the topics in turn, each from its centre outwards."""
    queues = []
    for mine, centre in zip(found.members, found.centres, strict=True):
        near = mine[np.argsort(-(rows[mine] @ centre), kind="stable")]
        distinct = _distinct([redact(texts[i]) for i in near])
        spread = np.linspace(0, len(distinct) - 1, min(most, len(distinct))).astype(int)
        queues.append([distinct[i] for i in dict.fromkeys(spread.tolist())])
    turns = [queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)]
    return tuple(_distinct(turns)[:most])


def _distinct(texts: list[str]) -> list[str]:
    """The first of each in their order; texts that differ only in case or spaces are equal."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(" ".join(text.casefold().split()), text)
    return list(found.values())


def largest_share(lines: list[PromptLine]) -> float:
    """The share of the requests in the largest session; 0 without requests."""
    return max(Counter(line.session for line in lines).values(), default=0) / max(len(lines), 1)


def session_advice(lines: list[PromptLine], cap: int) -> str:
    """Advice if half of the requests or more are not counted, being over the cap of their sessions."""
    beyond = sum(max(count - cap, 0) for count in Counter(line.session for line in lines).values())
    if not lines or 2 * beyond < len(lines):
        return ""
    return (
        f"{largest_share(lines):.0%} of the requests came in one session, and at most {cap} of a session are counted: "
        f"{beyond} of {len(lines)} requests are not. A backend that serves many visitors must send "
        "`session` with each request, an identifier of the visitor"
    )
