"""The gate on scores whose truth is known: twelve fixed prompts, three seeds."""

import numpy as np
import pytest

from tasks.core.gate import Check, Decision, Measure, Scores, decide, paired_interval, passes_founding_gate
from tasks.core.specs import GateSpec

FIXED = tuple(f"fixed {i}" for i in range(12))
DRIFTED = ("drifted 0", "drifted 1")
SPEC = GateSpec(resamples=2000)
SPREAD = (-0.01, 0.0, 0.01)


def scores(
    fidelity: float = 0.9, style: float = 0.5, diversity: float = 0.3, seconds: float = 2.0, drifted: float = 0.9
) -> Scores:
    """Scores with a little spread over prompts and seeds, around these means."""

    def around(mean: float, prompts: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
        offsets = np.linspace(-0.02, 0.02, len(prompts))
        return {p: tuple(mean + o + s for s in SPREAD) for p, o in zip(prompts, offsets, strict=True)}

    flat: dict[Measure, float] = {"style_fidelity": style, "diversity": diversity, "render_seconds": seconds}
    made: Scores = {name: around(mean, FIXED + DRIFTED) for name, mean in flat.items()}
    return made | {"prompt_fidelity": around(fidelity, FIXED) | around(drifted, DRIFTED)}


def named(decision: Decision, name: str) -> Check:
    return next(c for c in decision.checks if c.name == name)


def failed(decision: Decision) -> list[str]:
    return [c.name for c in decision.checks if not c.passed]


def test_a_better_challenger_is_promoted() -> None:
    decision = decide(scores(0.95, drifted=0.95), scores(0.9), SPEC, drifted=DRIFTED)
    assert decision.verdict == "promote"
    assert failed(decision) == []
    better = named(decision, "prompt_fidelity better")
    assert better.value == pytest.approx(0.05)
    assert better.low is not None
    assert better.low > 0


def test_a_tie_keeps_the_champion() -> None:
    decision = decide(scores(), scores(), SPEC)
    assert decision.verdict == "keep"
    assert failed(decision) == ["prompt_fidelity better"]
    assert named(decision, "prompt_fidelity better").low == 0.0
    assert "not surely better" in decision.reason


def test_a_worse_challenger_is_kept_out_for_every_reason_at_once() -> None:
    decision = decide(scores(0.7, diversity=0.1, drifted=0.7), scores(0.9), SPEC, drifted=DRIFTED)
    assert failed(decision) == ["floor", "prompt_fidelity better", "prompt_fidelity kept", "diversity kept"]
    assert all(c.says in decision.reason for c in decision.checks if not c.passed)


@pytest.mark.parametrize(("fidelity", "passes"), [(0.74, False), (0.76, True)])
def test_the_floor_is_absolute(fidelity: float, passes: bool) -> None:
    decision = decide(scores(fidelity, drifted=fidelity), scores(0.5, drifted=0.5), SPEC)
    assert named(decision, "floor").passed is passes
    assert decision.verdict == ("promote" if passes else "keep")


def test_the_floor_looks_at_the_fixed_prompts_alone() -> None:
    decision = decide(scores(0.76, drifted=0.3), scores(0.7, drifted=0.1), SPEC, drifted=DRIFTED)
    assert named(decision, "floor").passed
    assert named(decision, "floor").value == pytest.approx(0.76)


@pytest.mark.parametrize(("seconds", "passes"), [(30.5, False), (29.5, True)])
def test_a_slow_challenger_is_kept_out(seconds: float, passes: bool) -> None:
    decision = decide(scores(0.95, seconds=seconds, drifted=0.95), scores(0.9), SPEC)
    assert (failed(decision) == []) is passes
    assert named(decision, "speed").passed is passes


def test_style_decides_against_the_bare_base() -> None:
    base = scores(0.8, style=0.2)
    assert decide(scores(0.9, style=0.5), base, SPEC, bare_base=True).verdict == "promote"
    unstyled = decide(scores(0.9, style=0.2), base, SPEC, bare_base=True)
    assert failed(unstyled) == ["style_fidelity better"]


def test_style_does_not_decide_against_a_champion() -> None:
    decision = decide(scores(0.95, style=0.1, drifted=0.95), scores(0.9, style=0.5), SPEC)
    assert decision.verdict == "promote"
    assert "style_fidelity" not in " ".join(c.name for c in decision.checks)


def test_diversity_is_no_guard_against_the_bare_base() -> None:
    decision = decide(scores(0.9, style=0.5, diversity=0.0), scores(0.8, style=0.2), SPEC, bare_base=True)
    assert decision.verdict == "promote"


def test_two_drifted_prompts_weigh_as_much_as_twelve_fixed() -> None:
    challenger, champion = scores(0.88, drifted=1.0), scores(0.9, drifted=0.9)
    decision = decide(challenger, champion, SPEC, drifted=DRIFTED)
    better = named(decision, "prompt_fidelity better")
    assert better.value == pytest.approx((-0.02 + 0.1) / 2)  # by rows it would be -0.003
    assert better.low == pytest.approx(0.04), "all prompts of a set differ alike"
    assert better.high == pytest.approx(0.04)
    assert decision.verdict == "promote"


def test_the_drifted_prompts_cannot_buy_a_loss_on_the_fixed() -> None:
    decision = decide(scores(0.78, drifted=1.0), scores(0.9, drifted=0.3), SPEC, drifted=DRIFTED)
    assert failed(decision) == ["prompt_fidelity kept"]
    assert decision.verdict == "keep"


@pytest.mark.parametrize(("diversity", "verdict"), [(0.26, "promote"), (0.24, "keep")])
def test_diversity_may_fall_within_its_margin(diversity: float, verdict: str) -> None:
    decision = decide(scores(0.95, diversity=diversity, drifted=0.95), scores(0.9), SPEC)
    assert decision.verdict == verdict


def one_measure(values: "np.typing.NDArray[np.float64]") -> Scores:
    return {"prompt_fidelity": {p: (float(v),) for p, v in zip(FIXED, values, strict=True)}}


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, spec, true = np.random.default_rng(5), GateSpec(resamples=500), 0.03
    covered = 0
    for _ in range(300):
        champion = rng.normal(0.8, 0.1, len(FIXED))
        challenger = champion + rng.normal(true, 0.05, len(FIXED))
        _, low, high = paired_interval(
            one_measure(challenger), one_measure(champion), "prompt_fidelity", (FIXED,), spec
        )
        covered += low <= true <= high
    assert 0.86 <= covered / 300 <= 0.98  # the percentile interval of twelve is a little short of 0.95


@pytest.mark.parametrize(("shift", "excludes"), [(0.0, False), (0.2, True), (-0.2, True)])
def test_the_interval_excludes_zero_only_for_a_real_difference(shift: float, excludes: bool) -> None:
    noise = np.random.default_rng(3).normal(0, 0.05, len(FIXED))
    champion, challenger = one_measure(np.full(12, 0.8)), one_measure(0.8 + shift + noise - noise.mean())
    value, low, high = paired_interval(challenger, champion, "prompt_fidelity", (FIXED,), SPEC)
    assert value == pytest.approx(shift, abs=1e-9)
    assert low <= value <= high
    assert (low > 0 or high < 0) is excludes


def test_differences_are_paired_by_prompt() -> None:
    hard_and_easy = np.linspace(0.1, 0.9, len(FIXED))  # prompts differ far more than the models do
    _, low, _ = paired_interval(
        one_measure(hard_and_easy + 0.02), one_measure(hard_and_easy), "prompt_fidelity", (FIXED,), SPEC
    )
    assert low == pytest.approx(0.02)


def test_the_same_scores_give_the_same_decision() -> None:
    first, second = (decide(scores(0.92), scores(), SPEC, drifted=DRIFTED) for _ in range(2))
    assert first == second
    assert Decision.model_validate_json(first.model_dump_json()) == first


@pytest.mark.parametrize(("fidelity", "seconds", "passes"), [(0.8, 5.0, True), (0.7, 5.0, False), (0.8, 40.0, False)])
def test_the_founding_gate_asks_for_floor_and_speed(fidelity: float, seconds: float, passes: bool) -> None:
    assert passes_founding_gate(scores(fidelity, seconds=seconds), FIXED, SPEC) is passes
