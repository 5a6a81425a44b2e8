"""Descriptions of the gate's checks: measure, figure, limit, verdict and advice.

A check may be of a later version of the software: what is unknown here is shown as it is.
"""

from collections.abc import Sequence

from tasks.core.gate.checks import Check
from tasks.core.gate.statistics import LESS_IS_BETTER, Measure

MEASURES: dict[Measure, str] = {
    "prompt_fidelity": "prompt fidelity",
    "style_fidelity": "style fidelity",
    "diversity": "diversity",
    "forgetting": "forgetting",
    "near_copies": "nearness to training pictures",
    "render_seconds": "render time",
}
MEANINGS: dict[Measure, str] = {
    "prompt_fidelity": "How well a picture matches its prompt, as CLIPScore. More is better.",
    "style_fidelity": "How like known pictures of the style the pictures are, by the mean cosine of their embeddings; "
    "pictures held out of the training, unless stated otherwise above. More is better.",
    "diversity": "How much the pictures of one prompt differ: the mean cosine distance. More is better.",
    "forgetting": "The loss against the base model on prompts without the trigger word, in CLIPScore. Less is better.",
    "near_copies": "The cosine of a picture to the nearest training picture. Less is better.",
    "render_seconds": "Seconds per picture, once the model is loaded. Less is better.",
}
LIMITS: dict[str, str] = {
    "refused": "refused outright",
    "floor": "prompt fidelity on the fixed prompts",
    "speed": "time of a picture",
    "size": "size of the weights",
    "evenness": "largest gap between two groups of prompts",
    "copies": "share of near-copies of training pictures",
    "forgetting": "forgetting",
    "diversity": "diversity",
    "near_copies": "nearness to training pictures",
}
KINDS: tuple[str, ...] = ("superiority", "guard", "limit")
VERDICTS: tuple[str, ...] = ("passed", "failed", "unsure")
LEAST = ("floor", "diversity")  # limits that a figure must reach
ADVICE: dict[str, str] = {
    "refused": "Check the pictures and the flow run of the evaluation: it must be repeated.",
    "floor": "Train longer, or on pictures with more detailed captions.",
    "speed": "Render with fewer steps, or on a faster device.",
    "size": "Train with a lower rank.",
    "evenness": "Add pictures of the weaker group.",
    "copies": "Train on more pictures, or stop earlier.",
    "prompt_fidelity better": "There is no significant gain on this number of prompts: train on more pictures "
    "of what people ask for, or evaluate on more prompts.",
    "style_fidelity better": "The style was not learnt: train longer, or on more pictures of it.",
    "prompt_fidelity": "Fidelity on the fixed prompts is lower: keep older pictures in the data.",
    "style_fidelity": "The style has faded: train longer, or on fewer other pictures.",
    "diversity": "The pictures of a prompt have become alike: stop earlier, or train on more pictures.",
    "forgetting": "Train with class pictures (train.prior), or stop earlier.",
    "near_copies": "Train on more pictures, or stop earlier.",
    "render_seconds": "Check whether the device was busy, and evaluate again.",
}
UNSURE = "More prompts, seeds or further looks (gate.max_looks) would narrow the interval of {}."


def label(check: Check) -> str:
    """The name of the check."""
    if check.kind == "limit" or check.measure is None:
        return LIMITS.get(check.name, check.name)
    fixed = " on the fixed prompts" if check.kind == "guard" and check.measure == "prompt_fidelity" else ""
    return f"{MEASURES.get(check.measure, check.measure)}{fixed}"


def role(check: Check) -> str:
    """The role of the check."""
    return {"superiority": "decides: must be better", "guard": "must not get worse", "limit": ""}.get(
        check.kind, check.kind
    )


def figure(check: Check, value: float, signed: bool = False) -> str:
    """A value in the check's unit, with a typographic minus."""
    plain = f"{value:.0%}" if check.name == "copies" else f"{value:.1f}" if check.name == "size" else f"{value:.3f}"
    return _unit(check, f"+{plain}" if signed and value > 0 else plain)


def found(check: Check) -> str:
    """The figure, with its interval if it has one."""
    if check.name == "refused":
        return check.says
    if check.low is None:
        return figure(check, check.value)
    return f"{figure(check, check.value, signed=True)} ({interval(check)})"


def interval(check: Check) -> str:
    """The ends of the interval."""
    low, high = (figure(check, end or 0.0, signed=True) for end in (check.low, check.high))
    return f"{low} to {high}"


def allowed(check: Check) -> str:
    """The condition on the figure, or on the whole interval."""
    if check.kind == "superiority":
        return "whole interval better than 0"
    if check.kind == "guard":
        end = "under" if check.measure in LESS_IS_BETTER else "over"
        return f"whole interval {end} {figure(check, check.limit, signed=True)}"
    if check.name == "refused":
        return "none"
    if check.kind not in KINDS:
        return figure(check, check.limit, signed=True)
    limit = f"{check.limit:.0%}" if check.name == "copies" else f"{check.limit:g}"
    return f"at {'least' if check.name in LEAST else 'most'} {_unit(check, limit)}"


def verdict(check: Check) -> str:
    """The verdict in words."""
    if not is_known(check):
        return check.verdict
    if check.kind == "limit":
        return "passed" if check.passed else "failed"
    if check.kind == "superiority":
        return "better" if check.passed else "not significantly better"
    if check.verdict == "failed":
        return f"still unsure after {looks(check)}" if straddles(check) else "worse than allowed"
    return "not worse than allowed" if check.passed else "is undecided yet"


def clause(check: Check) -> str:
    """The verdict with its figures, as a clause."""
    if check.kind == "limit" or not is_known(check):
        return check.says
    if check.kind == "guard" and check.verdict != "passed" and straddles(check):
        sure = "is undecided yet" if check.verdict == "unsure" else f"is undecided after {looks(check)}"
        return f"whether {label(check)} is worse than allowed {sure}: {found(check)}"
    return f"{label(check)} is {verdict(check)}: {found(check)}"


def is_known(check: Check) -> bool:
    """Whether kind and verdict are ones that this version knows."""
    return check.kind in KINDS and check.verdict in VERDICTS


def straddles(check: Check) -> bool:
    """Whether the limit is within the interval."""
    return check.low is not None and check.high is not None and check.low < check.limit < check.high


def looks(check: Check) -> str:
    """The number of looks."""
    return f"{check.looks} look{'s' if check.looks > 1 else ''}"


def advice(checks: Sequence[Check]) -> list[str]:
    """Advice for checks that were not passed, without repeats."""
    open_ones = [c for c in checks if c.kind == "guard" and straddles(c)]
    tips = [ADVICE.get(c.name) or ADVICE.get(c.measure or "", "") for c in checks if c not in open_ones]
    more = [UNSURE.format(" and ".join(label(c) for c in open_ones))] if open_ones else []
    return [*dict.fromkeys(filter(None, tips)), *more]


def _unit(check: Check, number: str) -> str:
    unit = " s" if check.measure == "render_seconds" else " MiB" if check.name == "size" else ""
    return number.replace("-", chr(0x2212)) + unit
