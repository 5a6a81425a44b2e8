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


def founding(scores: Scores, fixed: Sequence[str], spec: GateSpec) -> tuple[Check, Check]:
    """The floor and the time of the founding recipe."""
    fidelity, seconds = mean(scores["prompt_fidelity"], fixed), mean(scores["render_seconds"])
    return (
        at_least("floor", "prompt_fidelity", fidelity, spec.floor, "the mean CLIPScore is"),
        at_most("speed", "render_seconds", seconds, spec.max_seconds, "a picture takes", " s"),
    )


def limits(scores: Scores, spec: GateSpec, evidence: Evidence) -> Iterator[Check]:
    """What holds for every challenger."""
    fidelity = scores["prompt_fidelity"]
    yield from founding(scores, evidence.fixed(fidelity), spec)
    if evidence.size_bytes:
        yield at_most("size", None, evidence.size_bytes / 2**20, spec.max_mebibytes, "the weights take", " MiB")
    if len(evidence.groups) > 1:
        yield _evenness(fidelity, evidence.groups, spec)
    if evidence.near_limit is not None:
        yield _copies(scores["near_copies"], evidence.near_limit, spec)


def first_model(scores: Scores, spec: GateSpec, evidence: Evidence) -> Iterator[Check]:
    """What takes the place of the guards where there is no champion: no style model matches the bare base."""
    forgotten = "on prompts without the trigger the CLIPScore lies under that of the bare base by"
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
    told = f"the CLIPScore of {worst!r} lies under that of {best!r} by"
    return at_most("evenness", "prompt_fidelity", of[best] - of[worst], spec.max_gap, told)


def _copies(nearness: Values, near: float, spec: GateSpec) -> Check:
    """The share of pictures that come as near to a training picture as few training pictures do to each other."""
    copied = [value >= near for values in nearness.values() for value in values]
    told = f"the share of pictures with a cosine of {near:.3f} or more to a training picture is"
    return at_most("copies", "near_copies", sum(copied) / len(copied), spec.max_copied, told)
