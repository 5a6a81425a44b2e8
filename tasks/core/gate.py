"""The gate: does the challenger replace the champion? Pure.

One look at the primary measure, which must be better; every other measure is a guard that must not be worse by more
than its margin. A guard that cannot tell yet gets further looks with more seeds, the primary never does.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tasks.core.documents import Document
from tasks.core.scores import LESS_IS_BETTER, MEASURES, Measure, Scores, Values, means, merged, paired_interval
from tasks.core.specs import GateSpec

__all__ = ["Check", "Decision", "Evidence", "GateSpec", "Look", "Measure", "Scores", "decide", "settle", "unsure"]

Verdict = Literal["promote", "keep", "inconclusive"]
GUARDS: tuple[Measure, ...] = ("style_fidelity", "diversity", "forgetting", "near_copies", "render_seconds")


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


class Decision(Document):
    """The verdict and every check that led to it."""

    verdict: Verdict
    reason: str
    checks: tuple[Check, ...]


class Evidence(Document):
    """What the gate is told beside the scores."""

    drifted: tuple[str, ...] = ()  # those prompts of the scores that are of drifted traffic
    bare_base: bool = False  # the champion is the base model without a LoRA
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # prompts by what they ask for, for evenness
    near_limit: float | None = None  # cosine from which a picture is a near-copy, by leave-one-out of the training data
    size_bytes: int = 0  # of the weights
    refusals: tuple[str, ...] = ()  # faults that no figure outweighs: black pictures and their like


class Look(Document):
    """Further seeds for a guard: its measure's values of both models."""

    check: str
    challenger: Values
    champion: Values


def decide(challenger: Scores, champion: Scores | None, spec: GateSpec, *, evidence: Evidence = Evidence()) -> Decision:
    """Compare paired scores over the same prompts and seeds; None is a first model with nothing to compare with.

    Against the bare base the primary measure is the style, and absolute limits take the place of the guards; against a
    champion it is prompt fidelity, the fixed and the drifted prompts with equal weight. Ties keep the champion.
    """
    faults = [*evidence.refusals, *_faults(challenger, champion)]
    if faults:
        return _decision([_refused(fault) for fault in faults])
    fixed = tuple(p for p in challenger["prompt_fidelity"] if p not in evidence.drifted)
    checks = list(_limits(challenger, fixed, spec, evidence))
    if champion is None or evidence.bare_base:
        checks += _absolute(challenger, spec, evidence)
        if champion is not None:
            checks.append(_superior("style_fidelity", challenger, champion, (fixed,), spec))
        return _decision(checks)
    sets = tuple(filter(None, (fixed, tuple(p for p in evidence.drifted if p in challenger["prompt_fidelity"]))))
    checks.append(_superior("prompt_fidelity", challenger, champion, sets, spec))
    if len(sets) > 1:  # else the primary says it already
        checks.append(_guard("prompt_fidelity", challenger, champion, fixed, spec))
    checks += [_guard(m, challenger, champion, tuple(challenger[m]), spec) for m in GUARDS]
    return _decision(checks)


def settle(
    challenger: Scores,
    champion: Scores | None,
    spec: GateSpec,
    looks: Sequence[Look],
    *,
    evidence: Evidence = Evidence(),
) -> Decision:
    """The decision after further looks; a guard that is unsure after `spec.max_looks` of them keeps the champion."""
    first = decide(challenger, champion, spec, evidence=evidence)
    if first.verdict != "inconclusive" or champion is None:
        return first
    return _decision([_again(check, challenger, champion, spec, looks) for check in first.checks])


def unsure(decision: Decision) -> tuple[Check, ...]:
    """The guards for which more seeds are needed; none unless the decision hangs on them alone."""
    return tuple(c for c in decision.checks if c.verdict == "unsure") if decision.verdict == "inconclusive" else ()


def passes_founding_gate(scores: Scores, fixed: tuple[str, ...], spec: GateSpec) -> bool:
    """Whether a model reaches the floor in time, by itself: the bare base must not."""
    return all(check.passed for check in _founding(scores, fixed, spec))


def _decision(checks: list[Check]) -> Decision:
    failed = [c.says for c in checks if c.verdict == "failed"]
    open_ones = [c.says for c in checks if c.verdict == "unsure"]
    verdict: Verdict = "keep" if failed else "inconclusive" if open_ones else "promote"
    reason = "; ".join(failed or open_ones or [c.says for c in checks])
    return Decision(verdict=verdict, reason=reason, checks=tuple(checks))


def _faults(challenger: Scores, champion: Scores | None) -> Iterator[str]:
    """Why the scores cannot be compared."""
    for who, scores in (("challenger", challenger), ("champion", champion)):
        for measure in MEASURES if scores is not None else ():
            values = (scores or {}).get(measure)
            if not values or not all(values.values()):
                yield f"{measure} of the {who} was not measured"
            elif not all(np.isfinite(v).all() for v in values.values()):
                yield f"{measure} of the {who} is not a finite number everywhere"
            elif set(values) != set(challenger.get(measure, ())):
                yield f"{measure} was measured on other prompts for the champion"


def _refused(fault: str) -> Check:
    return Check(name="refused", kind="limit", value=1, limit=0, verdict="failed", says=fault)


def _limit(name: str, measure: Measure | None, value: float, limit: float, says: tuple[str, str, str]) -> Check:
    """A figure against an absolute limit; `says` is how it is told, what it does, and `most` or `least`."""
    told, unit, end = says
    passed = value <= limit if end == "most" else value >= limit
    kept = f"{'is' if passed else 'is not'} {'within' if end == 'most' else 'at least'}"
    return Check(
        name=name,
        kind="limit",
        measure=measure,
        value=value,
        limit=limit,
        verdict="passed" if passed else "failed",
        says=f"{told} {value:.3g}{unit} {kept} {limit:g}{unit}",
    )


def _founding(scores: Scores, fixed: tuple[str, ...], spec: GateSpec) -> list[Check]:
    """The floor and the time of the founding recipe."""
    fidelity = float(means(scores["prompt_fidelity"], fixed).mean())
    seconds = float(means(scores["render_seconds"], tuple(scores["render_seconds"])).mean())
    return [
        _limit("floor", "prompt_fidelity", fidelity, spec.floor, ("mean CLIPScore", "", "least")),
        _limit("speed", "render_seconds", seconds, spec.max_seconds, ("a picture takes", " s", "most")),
    ]


def _limits(scores: Scores, fixed: tuple[str, ...], spec: GateSpec, evidence: Evidence) -> Iterator[Check]:
    """What holds for every challenger, whatever the champion."""
    yield from _founding(scores, fixed, spec)
    if evidence.size_bytes:
        size = evidence.size_bytes / 2**20
        yield _limit("size", None, size, spec.max_mebibytes, ("the weights take", " MiB", "most"))
    if len(evidence.groups) > 1:
        of = {name: float(means(scores["prompt_fidelity"], p).mean()) for name, p in evidence.groups.items()}
        worst, best = min(of, key=lambda g: of[g]), max(of, key=lambda g: of[g])
        told = f"the CLIPScore of {worst!r} lies under that of {best!r} by"
        yield _limit("evenness", "prompt_fidelity", of[best] - of[worst], spec.max_gap, (told, "", "most"))
    if evidence.near_limit is not None:
        copied = [v >= evidence.near_limit for values in scores["near_copies"].values() for v in values]
        told = (
            f"the share of pictures whose nearest training picture has a cosine of {evidence.near_limit:.3f} or more,"
        )
        yield _limit("copies", "near_copies", sum(copied) / len(copied), spec.max_copied, (told, "", "most"))


def _absolute(scores: Scores, spec: GateSpec, evidence: Evidence) -> Iterator[Check]:
    """What takes the place of the guards where there is no champion: no style model matches the bare base."""

    def mean(measure: Measure) -> float:
        return float(means(scores[measure], tuple(scores[measure])).mean())

    forgotten = ("on prompts without the trigger the CLIPScore lies under that of the bare base by", "", "most")
    yield _limit("forgetting", "forgetting", mean("forgetting"), spec.max_forgetting, forgotten)
    varied = ("the pictures of a prompt differ by a mean cosine distance of", "", "least")
    yield _limit("diversity", "diversity", mean("diversity"), spec.min_diversity, varied)
    if evidence.near_limit is None:
        near = ("the mean cosine to the nearest training picture", "", "most")
        yield _limit("near_copies", "near_copies", mean("near_copies"), spec.max_nearness, near)


def _superior(
    measure: Measure, challenger: Scores, champion: Scores, sets: tuple[tuple[str, ...], ...], spec: GateSpec
) -> Check:
    value, low, high = interval(challenger[measure], champion[measure], sets, spec)
    passed = low > 0
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


def _guard(
    measure: Measure, challenger: Scores, champion: Scores, prompts: tuple[str, ...], spec: GateSpec, looks: int = 1
) -> Check:
    """Non-inferiority: the whole interval on the right side of the margin passes, the whole beyond it fails."""
    value, low, high = interval(challenger[measure], champion[measure], (prompts,), spec)
    margin: float = getattr(spec.margins, measure)
    if measure == "render_seconds":  # a share of the champion's time
        margin *= float(means(champion[measure], prompts).mean())
    worse, surely = (high, low) if measure in LESS_IS_BETTER else (-low, -high)
    verdict: Literal["passed", "failed", "unsure"] = (
        "passed" if worse < margin else "failed" if surely >= margin else "unsure"
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


def _again(check: Check, challenger: Scores, champion: Scores, spec: GateSpec, looks: Sequence[Look]) -> Check:
    """A guard with the seeds of its further looks."""
    mine = [look for look in looks if look.check == check.name][: spec.max_looks]
    if check.verdict != "unsure" or check.measure is None or not mine:
        return check
    ours, theirs = challenger[check.measure], champion[check.measure]
    for look in mine:
        ours, theirs = merged(ours, look.challenger), merged(theirs, look.champion)
    found = _guard(check.measure, {check.measure: ours}, {check.measure: theirs}, tuple(ours), spec, 1 + len(mine))
    if found.verdict != "unsure" or len(mine) < spec.max_looks:
        return found
    says = f"{found.says}, after {found.looks} looks; the champion stays"
    return found.model_copy(update={"verdict": "failed", "says": says})


def interval(
    challenger: Values, champion: Values, sets: Sequence[Sequence[str]], spec: GateSpec
) -> tuple[float, float, float]:
    """Mean difference and its interval, as the specification asks for them."""
    return paired_interval(
        challenger, champion, sets, resamples=spec.resamples, confidence=spec.confidence, seed=spec.seed
    )
