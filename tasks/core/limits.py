"""The gate's absolute limits: what a model must show whatever the champion, and where there is none."""

from collections.abc import Iterator, Mapping, Sequence

from tasks.core.checks import Check, at_least, at_most
from tasks.core.evidence import Evidence
from tasks.core.scores import Scores, Values, mean
from tasks.core.specs import GateSpec


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
