"""A gate's checks in words: what was looked at, how it is counted, what came of it, and what to do."""

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
    "prompt_fidelity": "How well a picture shows what its prompt asks for, as CLIPScore. More is better.",
    "style_fidelity": "How like known pictures of the style the pictures are, by the mean cosine of their embeddings; "
    "pictures held out of the training, unless it says above that nothing was. More is better.",
    "diversity": "How much the pictures of one prompt differ: the mean cosine distance. More is better.",
    "forgetting": "How much of what the base model could do without the trigger word is lost, in CLIPScore. "
    "Less is better.",
    "near_copies": "How near a picture comes to the training picture that is most like it: the cosine. Less is better.",
    "render_seconds": "Seconds that a picture takes, once the model is loaded. Less is better.",
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
LEAST = ("floor", "diversity")  # limits that a figure must reach
ADVICE: dict[str, str] = {
    "refused": "Look at the pictures and at the run of the evaluation: it must be repeated.",
    "floor": "Train longer, or on pictures whose captions say more.",
    "speed": "Render with fewer steps, or on a faster device.",
    "size": "Train with a lower rank.",
    "evenness": "Add pictures of the group that fell behind.",
    "copies": "Train on more pictures, or stop earlier.",
    "prompt_fidelity better": "There is no gain that this many prompts could tell from chance: train on more pictures "
    "of what people ask for, or evaluate on more prompts.",
    "style_fidelity better": "The style was not learnt: train longer, or on more pictures of it.",
    "prompt_fidelity": "The fixed prompts have lost: keep older pictures in the data.",
    "style_fidelity": "The style has faded: train longer, or on fewer other pictures.",
    "diversity": "The pictures of a prompt have become alike: stop earlier, or train on more pictures.",
    "forgetting": "Train beside class pictures (train.prior), or stop earlier.",
    "near_copies": "Train on more pictures, or stop earlier.",
    "render_seconds": "See whether the device was busy with something else, and evaluate again.",
}
UNSURE = "More prompts, seeds or further looks (gate.max_looks) would tell more about {}."


def label(check: Check) -> str:
    """What was looked at."""
    if check.kind == "limit" or check.measure is None:
        return LIMITS[check.name]
    fixed = " on the fixed prompts" if check.kind == "guard" and check.measure == "prompt_fidelity" else ""
    return f"{MEASURES[check.measure]}{fixed}"


def role(check: Check) -> str:
    """What it is for."""
    return {"superiority": "decides: must be better", "guard": "must not get worse", "limit": ""}[check.kind]


def figure(check: Check, value: float, signed: bool = False) -> str:
    """A value of it in its unit, a true minus before it."""
    plain = f"{value:.0%}" if check.name == "copies" else f"{value:.1f}" if check.name == "size" else f"{value:.3f}"
    return _unit(check, f"+{plain}" if signed and value > 0 else plain)


def found(check: Check) -> str:
    """The figure, with its interval where it has one."""
    if check.name == "refused":
        return check.says
    if check.kind == "limit":
        return figure(check, check.value)
    return f"{figure(check, check.value, signed=True)} ({interval(check)})"


def interval(check: Check) -> str:
    """From where to where."""
    low, high = (figure(check, end or 0.0, signed=True) for end in (check.low, check.high))
    return f"{low} to {high}"


def allowed(check: Check) -> str:
    """What the figure, or the whole interval, must keep."""
    if check.kind == "superiority":
        return "all of it better than 0"
    if check.kind == "guard":
        end = "under" if check.measure in LESS_IS_BETTER else "over"
        return f"all of it {end} {figure(check, check.limit, signed=True)}"
    if check.name == "refused":
        return "nothing of the kind"
    limit = f"{check.limit:.0%}" if check.name == "copies" else f"{check.limit:g}"
    return f"at {'least' if check.name in LEAST else 'most'} {_unit(check, limit)}"


def verdict(check: Check) -> str:
    """What came of it."""
    if check.kind == "limit":
        return "kept" if check.passed else "broken"
    if check.kind == "superiority":
        return "better" if check.passed else "not significantly better"
    if check.verdict == "failed":
        return f"still unsure after {looks(check)}" if straddles(check) else "worse than allowed"
    return "not worse than allowed" if check.passed else "cannot be told yet"


def told(check: Check) -> str:
    """What came of it, as a clause."""
    if check.kind == "limit":
        return check.says
    if check.kind == "guard" and check.verdict != "passed" and straddles(check):
        sure = "cannot be told yet" if check.verdict == "unsure" else f"could not be told in {looks(check)}"
        return f"whether {label(check)} is worse than allowed {sure}: {found(check)}"
    return f"{label(check)} is {verdict(check)}: {found(check)}"


def straddles(check: Check) -> bool:
    """Whether the end of what is allowed lies within the interval."""
    return check.low is not None and check.high is not None and check.low < check.limit < check.high


def looks(check: Check) -> str:
    """How often it was looked at."""
    return f"{check.looks} look{'s' if check.looks > 1 else ''}"


def advice(checks: Sequence[Check]) -> list[str]:
    """What can be done about checks that were not passed, each thing once."""
    open_ones = [c for c in checks if c.kind == "guard" and straddles(c)]
    tips = [ADVICE.get(c.name) or ADVICE[c.measure or c.name] for c in checks if c not in open_ones]
    more = [UNSURE.format(" and ".join(label(c) for c in open_ones))] if open_ones else []
    return [*dict.fromkeys(tips), *more]


def _unit(check: Check, number: str) -> str:
    unit = " s" if check.measure == "render_seconds" else " MiB" if check.name == "size" else ""
    return number.replace("-", chr(0x2212)) + unit
