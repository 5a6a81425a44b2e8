"""The gate's checks: a figure against a limit, and two ways of comparing with the champion."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from tasks.core.config.presets import GateSpec
from tasks.core.gate.evidence import Evidence
from tasks.core.gate.statistics import LESS_IS_BETTER, Measure, Scores, Values, mean, paired_interval
from tasks.core.store.documents import Document

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
        """Whether the challenger passes it."""
        return self.verdict == "passed"


def refused(fault: str) -> Check:
    """The check of a fault that blocks promotion whatever the figures are."""
    return Check(name="refused", kind="limit", value=1, limit=0, verdict="failed", says=fault)


def at_most(name: str, measure: Measure | None, value: float, limit: float, phrase: str, unit: str = "") -> Check:
    """A figure that must not exceed its limit; `phrase` precedes the value in the message."""
    return _limit(
        name,
        measure,
        (value, limit),
        value <= limit,
        f"{phrase} {value:.3g}{unit} where at most {limit:g}{unit} is allowed",
    )


def at_least(name: str, measure: Measure | None, value: float, limit: float, phrase: str) -> Check:
    """A figure that must reach its limit."""
    return _limit(
        name, measure, (value, limit), value >= limit, f"{phrase} {value:.3g} where at least {limit:g} is needed"
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
    """Mean difference and its interval, with the resamples and confidence of the specification."""
    return paired_interval(
        challenger, champion, sets, resamples=spec.resamples, confidence=spec.confidence, seed=spec.seed
    )


def superior(
    measure: Measure, challenger: Scores, champion: Scores, sets: Sequence[Sequence[str]], spec: GateSpec
) -> Check:
    """Passes when the whole interval of the difference is better than zero: a tie fails."""
    value, low, high = interval(challenger[measure], champion[measure], sets, spec)
    passed = low > TIE
    result = "is better" if passed else "is not significantly better"
    return Check(
        name=f"{measure} better",
        kind="superiority",
        measure=measure,
        value=value,
        low=low,
        high=high,
        limit=0.0,
        verdict="passed" if passed else "failed",
        says=f"{measure} {value:+.3f} [{low:+.3f}, {high:+.3f}] {result}",
    )


def guard(
    measure: Measure, challenger: Values, champion: Values, prompts: Sequence[str], spec: GateSpec, looks: int = 1
) -> Check:
    """Non-inferiority: an interval wholly within the margin passes, one wholly beyond it fails."""
    value, low, high = interval(challenger, champion, (prompts,), spec)
    margin: float = getattr(spec.margins, measure)
    if measure == "render_seconds":  # a share of the champion's time
        margin *= mean(champion, prompts)
    least, most = (low, high) if measure in LESS_IS_BETTER else (-high, -low)  # range of the loss
    verdict: Literal["passed", "failed", "unsure"] = (
        "passed" if most < margin else "failed" if least >= margin else "unsure"
    )
    limit = margin if measure in LESS_IS_BETTER else -margin
    relation = {"passed": "is within", "failed": "is beyond", "unsure": "may be beyond"}[verdict]
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
        says=f"{measure} {value:+.3f} [{low:+.3f}, {high:+.3f}] {relation} its margin {limit:+.3f}",
    )


def founding(scores: Scores, fixed: Sequence[str], spec: GateSpec) -> tuple[Check, Check]:
    """The checks of fidelity floor and render time, as in the founding gate."""
    fidelity, seconds = mean(scores["prompt_fidelity"], fixed), mean(scores["render_seconds"])
    return (
        at_least("floor", "prompt_fidelity", fidelity, spec.floor, "the mean CLIPScore is"),
        at_most("speed", "render_seconds", seconds, spec.max_seconds, "a picture takes", " s"),
    )


def limits(scores: Scores, spec: GateSpec, evidence: Evidence) -> Iterator[Check]:
    """The limits that apply to every challenger."""
    fidelity = scores["prompt_fidelity"]
    yield from founding(scores, evidence.fixed(fidelity), spec)
    if evidence.size_bytes:
        yield at_most("size", None, evidence.size_bytes / 2**20, spec.max_mebibytes, "the weights take", " MiB")
    if len(evidence.groups) > 1:
        yield _evenness(fidelity, evidence.groups, spec)
    if evidence.near_limit is not None:
        yield _copies(scores["near_copies"], evidence.near_limit, spec)


def first_model(scores: Scores, spec: GateSpec, evidence: Evidence) -> Iterator[Check]:
    """Limits that replace the guards without a champion: no style model matches the bare base in every measure."""
    forgotten = "on prompts without the trigger the CLIPScore is below that of the bare base by"
    yield at_most("forgetting", "forgetting", mean(scores["forgetting"]), spec.max_forgetting, forgotten)
    varied = "the pictures of a prompt differ by a mean cosine distance of"
    yield at_least("diversity", "diversity", mean(scores["diversity"]), spec.min_diversity, varied)
    if evidence.near_limit is None:
        near = "the mean cosine to the nearest training picture is"
        yield at_most("near_copies", "near_copies", mean(scores["near_copies"]), spec.max_nearness, near)


def _evenness(fidelity: Values, groups: Mapping[str, Sequence[str]], spec: GateSpec) -> Check:
    """The largest gap between two groups of prompts."""
    of = {group: mean(fidelity, [p for p in prompts if p in fidelity]) for group, prompts in groups.items()}
    worst, best = min(of, key=lambda g: of[g]), max(of, key=lambda g: of[g])
    phrase = f"the CLIPScore of {worst!r} is below that of {best!r} by"
    return at_most("evenness", "prompt_fidelity", of[best] - of[worst], spec.max_gap, phrase)


def _copies(nearness: Values, near: float, spec: GateSpec) -> Check:
    """The share of near-copies: cosines to a training picture that are rare among training pictures."""
    copied = [value >= near for values in nearness.values() for value in values]
    phrase = f"the share of pictures with a cosine of {near:.3f} or more to a training picture is"
    return at_most("copies", "near_copies", sum(copied) / len(copied), spec.max_copied, phrase)
