"""The gate's checks: a figure against a limit, and two ways of comparing with the champion."""

from collections.abc import Sequence
from typing import Literal

from tasks.core.documents import Document
from tasks.core.scores import LESS_IS_BETTER, Measure, Scores, Values, mean, paired_interval
from tasks.core.specs import GateSpec

TIE = 1e-9  # differences up to this are rounding


class Check(Document):
    """One condition of the gate, with its figure, interval, limit and verdict."""

    name: str
    kind: Literal["limit", "superiority", "guard"]
    measure: Measure | None = None
    value: float
    low: float | None = None
    high: float | None = None
    limit: float
    verdict: Literal["passed", "failed", "unsure"]
    looks: int = 1
    says: str

    @property
    def passed(self) -> bool:
        """Whether it speaks for the challenger."""
        return self.verdict == "passed"


def refused(fault: str) -> Check:
    """A fault that no figure outweighs."""
    return Check(name="refused", kind="limit", value=1, limit=0, verdict="failed", says=fault)


def at_most(name: str, measure: Measure | None, value: float, limit: float, told: str, unit: str = "") -> Check:
    """A figure that must not exceed its limit; `told` is what it is, in words that its value can follow."""
    return _limit(
        name,
        measure,
        (value, limit),
        value <= limit,
        f"{told} {value:.3g}{unit} where at most {limit:g}{unit} is allowed",
    )


def at_least(name: str, measure: Measure | None, value: float, limit: float, told: str) -> Check:
    """A figure that must reach its limit."""
    return _limit(
        name, measure, (value, limit), value >= limit, f"{told} {value:.3g} where at least {limit:g} is needed"
    )


def _limit(name: str, measure: Measure | None, figures: tuple[float, float], passed: bool, says: str) -> Check:
    return Check(
        name=name,
        kind="limit",
        measure=measure,
        value=figures[0],
        limit=figures[1],
        verdict="passed" if passed else "failed",
        says=says,
    )


def interval(
    challenger: Values, champion: Values, sets: Sequence[Sequence[str]], spec: GateSpec
) -> tuple[float, float, float]:
    """Mean difference and its interval, as the specification asks for them."""
    return paired_interval(
        challenger, champion, sets, resamples=spec.resamples, confidence=spec.confidence, seed=spec.seed
    )


def superior(
    measure: Measure, challenger: Scores, champion: Scores, sets: Sequence[Sequence[str]], spec: GateSpec
) -> Check:
    """The whole interval of the difference is better than none: a tie is not."""
    value, low, high = interval(challenger[measure], champion[measure], sets, spec)
    passed = low > TIE
    told = f"{measure} {value:+.3f} [{low:+.3f}, {high:+.3f}] {'is better' if passed else 'is not surely better'}"
    return Check(
        name=f"{measure} better",
        kind="superiority",
        measure=measure,
        value=value,
        low=low,
        high=high,
        limit=0.0,
        verdict="passed" if passed else "failed",
        says=told,
    )


def guard(
    measure: Measure, challenger: Values, champion: Values, prompts: Sequence[str], spec: GateSpec, looks: int = 1
) -> Check:
    """Non-inferiority: the whole interval on the right side of the margin passes, the whole beyond it fails."""
    value, low, high = interval(challenger, champion, (prompts,), spec)
    margin: float = getattr(spec.margins, measure)
    if measure == "render_seconds":  # a share of the champion's time
        margin *= mean(champion, prompts)
    least, most = (low, high) if measure in LESS_IS_BETTER else (-high, -low)  # by how much it may be worse
    verdict: Literal["passed", "failed", "unsure"] = (
        "passed" if most < margin else "failed" if least >= margin else "unsure"
    )
    limit = margin if measure in LESS_IS_BETTER else -margin
    kept = {"passed": "is within", "failed": "is beyond", "unsure": "may be beyond"}[verdict]
    return Check(
        name=f"{measure} kept",
        kind="guard",
        measure=measure,
        value=value,
        low=low,
        high=high,
        limit=limit,
        verdict=verdict,
        looks=looks,
        says=f"{measure} {value:+.3f} [{low:+.3f}, {high:+.3f}] {kept} its margin {limit:+.3f}",
    )
