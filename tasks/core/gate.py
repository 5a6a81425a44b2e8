"""The gate: does the challenger replace the champion? Pure; the prompts are the units of the statistics."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.core.documents import Document
from tasks.core.specs import GateSpec

Measure = Literal["prompt_fidelity", "style_fidelity", "diversity", "render_seconds"]
Scores = dict[Measure, dict[str, tuple[float, ...]]]  # measure, prompt, a value for each seed


class Check(Document):
    """One condition of the gate."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    limit: float
    passed: bool
    says: str


class GateDecision(Document):
    """The verdict and every check that led to it."""

    verdict: Literal["promote", "keep"]
    reason: str
    checks: tuple[Check, ...]


def decide(
    challenger: Scores,
    champion: Scores,
    spec: GateSpec,
    *,
    drifted: tuple[str, ...] = (),
    bare_base: bool = False,
) -> GateDecision:
    """Compare paired scores over the same prompts and seeds.

    Against the bare base the primary measure is the style; against a champion it is prompt fidelity, the
    fixed and the `drifted` prompts with equal weight. All other checks are guards. Ties keep the champion.
    """
    fixed = tuple(p for p in challenger["prompt_fidelity"] if p not in drifted)
    checks = [_floor(challenger, fixed, spec), _speed(challenger, spec)]
    if bare_base:
        checks.append(_superior("style_fidelity", challenger, champion, (fixed,), spec))
        checks.append(_superior("prompt_fidelity", challenger, champion, (fixed,), spec))
    else:
        checks.append(_superior("prompt_fidelity", challenger, champion, tuple(filter(None, (fixed, drifted))), spec))
        checks.append(_not_worse("prompt_fidelity", challenger, champion, fixed, spec, spec.fixed_margin))
        checks.append(_not_worse("diversity", challenger, champion, fixed, spec, spec.diversity_margin))
    failed = [c for c in checks if not c.passed]
    if failed:
        return GateDecision(verdict="keep", reason="; ".join(c.says for c in failed), checks=tuple(checks))
    return GateDecision(verdict="promote", reason="; ".join(c.says for c in checks), checks=tuple(checks))


def passes_founding_gate(scores: Scores, fixed: tuple[str, ...], spec: GateSpec) -> bool:
    """Whether a model reaches the floor in time, by itself: the bare base must not."""
    return _floor(scores, fixed, spec).passed and _speed(scores, spec).passed


def means(scores: Scores, measure: Measure, prompts: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Mean over the seeds for each prompt, float64 [prompts]."""
    return np.array([np.mean(scores[measure][p]) for p in prompts])


def paired_interval(
    challenger: Scores, champion: Scores, measure: Measure, sets: tuple[tuple[str, ...], ...], spec: GateSpec
) -> tuple[float, float, float]:
    """Mean difference challenger - champion and its percentile bootstrap interval over prompts.

    Each set of prompts is resampled by itself and has equal weight (Efron & Tibshirani 1993, ch. 8 and 13).
    """
    rng = np.random.default_rng(spec.seed)
    estimate, draws = 0.0, np.zeros(spec.resamples)
    for prompts in sets:
        difference = means(challenger, measure, prompts) - means(champion, measure, prompts)
        rows = rng.integers(len(difference), size=(spec.resamples, len(difference)))
        estimate += float(difference.mean()) / len(sets)
        draws += difference[rows].mean(1) / len(sets)
    low, high = np.quantile(draws, [(1 - spec.confidence) / 2, (1 + spec.confidence) / 2])
    return estimate, float(low), float(high)


def _floor(challenger: Scores, fixed: tuple[str, ...], spec: GateSpec) -> Check:
    value = float(means(challenger, "prompt_fidelity", fixed).mean())
    passed = value >= spec.floor
    says = f"mean CLIPScore {value:.3f} {'reaches' if passed else 'is under'} the floor {spec.floor:.2f}"
    return Check(name="floor", value=value, limit=spec.floor, passed=passed, says=says)


def _speed(challenger: Scores, spec: GateSpec) -> Check:
    value = float(means(challenger, "render_seconds", tuple(challenger["render_seconds"])).mean())
    passed = value <= spec.max_seconds
    says = f"{value:.2f} s a picture {'is within' if passed else 'is over'} {spec.max_seconds:g} s"
    return Check(name="speed", value=value, limit=spec.max_seconds, passed=passed, says=says)


def _superior(
    measure: Measure, challenger: Scores, champion: Scores, sets: tuple[tuple[str, ...], ...], spec: GateSpec
) -> Check:
    value, low, high = paired_interval(challenger, champion, measure, sets, spec)
    passed = low > 0
    says = f"{measure} {value:+.3f} [{low:+.3f}, {high:+.3f}] {'is better' if passed else 'is not surely better'}"
    return Check(name=f"{measure} better", value=value, low=low, high=high, limit=0.0, passed=passed, says=says)


def _not_worse(
    measure: Measure, challenger: Scores, champion: Scores, fixed: tuple[str, ...], spec: GateSpec, margin: float
) -> Check:
    value, low, high = paired_interval(challenger, champion, measure, (fixed,), spec)
    passed = low > -margin
    kept = "within" if passed else "beyond"
    says = f"{measure} on the fixed prompts {value:+.3f} [{low:+.3f}, {high:+.3f}] {kept} -{margin:g}"
    return Check(name=f"{measure} kept", value=value, low=low, high=high, limit=-margin, passed=passed, says=says)
