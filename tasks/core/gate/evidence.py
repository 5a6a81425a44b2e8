"""The gate's evidence beside the scores, and the faults that make a comparison invalid."""

import math
from collections.abc import Iterator, Sequence

from pydantic import Field

from tasks.core.gate.statistics import MEASURES, Scores, Values
from tasks.core.store.documents import Document

UNHELD = (
    "Nothing was held out of the dataset version: style fidelity is the likeness to pictures that the challenger was "
    "trained on, which favours it, and the last LoRA of its training was taken, not the best."
)


def compared_with(held: int | None) -> str:
    """The pictures that style fidelity compares with, by how many were held out."""
    if held is None:
        return "held-out pictures, or training pictures if there were too few: which of them was not recorded"
    return f"{held} held-out pictures" if held else "training pictures: nothing was held out"


class Evidence(Document):
    """The gate's input beside the scores. Prompts without prompt_fidelity are excluded everywhere."""

    drifted: tuple[str, ...] = ()  # prompts of drifted traffic
    bare_base: bool = False  # the champion is the base model without a LoRA
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # prompts by subject, for evenness
    near_limit: float | None = None  # cosine from which a picture is a near-copy, by leave-one-out of the training data
    size_bytes: int = 0  # of the weights
    refusals: tuple[str, ...] = ()  # faults that block promotion, such as black pictures
    held: int | None = None  # held-out pictures that style is compared with; 0: training pictures; None: not recorded

    def fixed(self, values: Values) -> tuple[str, ...]:
        """The prompts of a measure without those of drifted traffic."""
        return tuple(p for p in values if p not in self.drifted)

    def sets(self, values: Values) -> tuple[tuple[str, ...], ...]:
        """The fixed and the drifted prompts, which have equal weight.

        They are one set where one of them has a single prompt, whose spread cannot be estimated.
        """
        fixed = self.fixed(values)
        sets = tuple(s for s in (fixed, tuple(p for p in values if p not in fixed)) if s)
        return sets if min(len(s) for s in sets) > 1 else (tuple(values),)

    def notes(self) -> tuple[str, ...]:
        """Caveats of the decision that do not depend on the figures."""
        return (UNHELD,) if self.held == 0 else ()


class ExtraSeeds(Document):
    """Further seeds for a guard: its measure's values of both models."""

    check: str
    challenger: Values
    champion: Values

    def covers(self, prompts: Sequence[str]) -> bool:
        """Whether both models have finite values on all these prompts."""
        return all(p in side and _finite(side[p]) for side in (self.challenger, self.champion) for p in prompts)


def faults(challenger: Scores, champion: Scores | None, evidence: Evidence) -> Iterator[str]:
    """Why scores cannot be compared: missing, not finite, or not of the same prompts and seeds."""
    found = [*evidence.refusals, *_unmeasured("challenger", challenger)]
    if champion is not None:
        found += _unmeasured("champion", champion)
    yield from found or _unlike(challenger, champion, evidence)


def _unmeasured(who: str, scores: Scores) -> Iterator[str]:
    for measure in MEASURES:
        values = scores.get(measure, {})
        if not values or not all(len(v) for v in values.values()):
            yield f"{measure} of the {who} was not measured"
        elif not all(map(_finite, values.values())):
            yield f"{measure} of the {who} is not a finite number everywhere"


def _unlike(challenger: Scores, champion: Scores | None, evidence: Evidence) -> Iterator[str]:
    """Scores that were measured but cannot be compared."""
    asked = challenger["prompt_fidelity"]
    if not evidence.fixed(asked):
        yield "none of the fixed prompts was measured"
    for group, prompts in {"drifted traffic": evidence.drifted, **evidence.groups}.items():
        if prompts and not any(p in asked for p in prompts):
            yield f"no prompt of {group!r} was measured"
    if champion is None:
        return
    for measure in MEASURES:
        ours, theirs = challenger[measure], champion[measure]
        if set(ours) != set(theirs):
            yield f"{measure} was measured on other prompts for the champion"
        elif any(len(ours[p]) != len(theirs[p]) for p in ours):
            yield f"{measure} was measured with other seeds for the champion"
        elif len(ours) < 2:
            yield f"{measure} was measured on one prompt only: the spread over prompts cannot be estimated"


def _finite(values: Sequence[float]) -> bool:
    return len(values) > 0 and all(map(math.isfinite, values))
