"""The gate: does the challenger replace the champion? Pure.

The primary measure gets one look and must be better; every other measure is a guard that must not be worse by more
than its margin. An undecided guard gets further looks with more seeds, the primary measure never does.
"""

from collections.abc import Sequence
from typing import Literal

from tasks.core.config.presets import GateSpec
from tasks.core.gate.checks import Check, first_model, founding, guard, limits, refused, superior
from tasks.core.gate.evidence import Evidence, ExtraSeeds, faults
from tasks.core.gate.statistics import Measure, Scores, merged
from tasks.core.store.documents import Document

Verdict = Literal["promote", "keep", "inconclusive"]
GUARDS: tuple[Measure, ...] = ("style_fidelity", "diversity", "forgetting", "near_copies", "render_seconds")


class GateDecision(Document):
    """The verdict and every check that led to it."""

    verdict: Verdict
    reason: str
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()  # caveats that do not depend on the figures


def decide(
    challenger: Scores, champion: Scores | None, spec: GateSpec, *, evidence: Evidence = Evidence()
) -> GateDecision:
    """Compare paired scores over the same prompts and seeds; None: a first model, compared with nothing.

    Against the bare base the primary measure is the style, and absolute limits replace the guards; against a
    champion it is prompt fidelity, the fixed and the drifted prompts with equal weight. Ties keep the champion, and so
    do scores that are missing, not finite, or of other prompts or seeds.
    """
    if found := list(faults(challenger, champion, evidence)):
        return _decision([refused(fault) for fault in found], evidence)
    checks = list(limits(challenger, spec, evidence))
    if champion is None or evidence.bare_base:
        checks += first_model(challenger, spec, evidence)
        if champion is not None:
            sets = evidence.sets(challenger["style_fidelity"])[:1]
            checks.append(superior("style_fidelity", challenger, champion, sets, spec))
        return _decision(checks, evidence)
    sets = evidence.sets(challenger["prompt_fidelity"])
    checks.append(superior("prompt_fidelity", challenger, champion, sets, spec))
    guards: tuple[Measure, ...] = ("prompt_fidelity", *GUARDS) if len(sets) > 1 else GUARDS  # else it is the primary
    for measure in guards:
        prompts = guarded(measure, challenger, evidence)
        checks.append(guard(measure, challenger[measure], champion[measure], prompts, spec))
    return _decision(checks, evidence)


def settle(
    challenger: Scores,
    champion: Scores | None,
    spec: GateSpec,
    looks: Sequence[ExtraSeeds],
    *,
    evidence: Evidence = Evidence(),
) -> GateDecision:
    """The decision after further looks; a guard that is unsure after `spec.max_looks` of them keeps the champion."""
    first = decide(challenger, champion, spec, evidence=evidence)
    if first.verdict != "inconclusive" or champion is None:
        return first
    return _decision(
        [_reevaluated(check, challenger, champion, spec, looks, evidence) for check in first.checks], evidence
    )


def unsure(decision: GateDecision) -> tuple[Check, ...]:
    """The guards that need more seeds; none unless they alone are undecided."""
    return tuple(c for c in decision.checks if c.verdict == "unsure") if decision.verdict == "inconclusive" else ()


def guarded(measure: Measure, scores: Scores, evidence: Evidence) -> tuple[str, ...]:
    """The prompts that a guard's further looks are measured on: for prompt fidelity the fixed ones."""
    values = scores[measure]
    return evidence.fixed(values) if measure == "prompt_fidelity" else tuple(values)


def passes_founding_gate(scores: Scores, fixed: Sequence[str], spec: GateSpec) -> bool:
    """Whether a model passes the absolute limits of floor and render time: the bare base must not."""
    return all(check.passed for check in founding(scores, fixed, spec))


def _decision(checks: Sequence[Check], evidence: Evidence) -> GateDecision:
    failed = [c.says for c in checks if c.verdict == "failed"]
    open_ones = [c.says for c in checks if c.verdict == "unsure"]
    verdict: Verdict = "keep" if failed else "inconclusive" if open_ones else "promote"
    reason = "; ".join(failed or open_ones or _passed(checks))
    return GateDecision(verdict=verdict, reason=reason, checks=tuple(checks), notes=evidence.notes())


def _passed(checks: Sequence[Check]) -> list[str]:
    """The superiority checks, and the number of other checks."""
    better = [c.says for c in checks if c.kind == "superiority"]
    return [*better, f"all {len(checks) - len(better)} {'other ' if better else ''}checks passed"]


def _reevaluated(
    check: Check,
    challenger: Scores,
    champion: Scores,
    spec: GateSpec,
    looks: Sequence[ExtraSeeds],
    evidence: Evidence,
) -> Check:
    """An undecided guard, evaluated again with the seeds of its further looks."""
    if check.verdict != "unsure" or check.measure is None:
        return check
    mine = [look for look in looks if look.check == check.name][: spec.max_looks]
    prompts = guarded(check.measure, challenger, evidence)
    if not all(look.covers(prompts) for look in mine):
        return refused(f"a further look at {check.measure} was not measured on all of its prompts")
    ours, theirs = challenger[check.measure], champion[check.measure]
    for look in mine:
        ours, theirs = merged(ours, look.challenger), merged(theirs, look.champion)
    found = guard(check.measure, ours, theirs, prompts, spec, 1 + len(mine)) if mine else check
    if found.verdict != "unsure" or len(mine) < spec.max_looks:
        return found
    says = f"{found.says}{f', after {found.looks} looks' if mine else ''}; the champion stays"
    return found.model_copy(update={"verdict": "failed", "says": says})
