"""The gate on simulated scores of known means: twelve fixed prompts, three seeds, six measures."""

import math

import pytest

from tasks.core.config.presets import GateSpec, Margins
from tasks.core.gate.checks import Check
from tasks.core.gate.decide import GateDecision, decide, guarded, passes_founding_gate, settle, unsure
from tasks.core.gate.evidence import Evidence, ExtraSeeds
from tasks.core.gate.statistics import MEASURES, Measure, Scores, Values

FIXED = tuple(f"fixed {i}" for i in range(12))
DRIFTED = ("drifted 0", "drifted 1")
SPEC = GateSpec(resamples=2000)
SPREAD = (-0.01, 0.0, 0.01)
LEVELS: dict[Measure, float] = {
    "prompt_fidelity": 0.9,
    "style_fidelity": 0.5,
    "diversity": 0.3,
    "forgetting": 0.02,
    "near_copies": 0.6,
    "render_seconds": 2.0,
}
BETTER = {"prompt_fidelity": 0.95}
GUARDS = ("style_fidelity kept", "diversity kept", "forgetting kept", "near_copies kept", "render_seconds kept")


def around(mean: float, prompts: tuple[str, ...]) -> Values:
    """A little spread over prompts and seeds."""
    middle = (len(prompts) - 1) / 2
    return {p: tuple(mean + 0.002 * (i - middle) + s for s in SPREAD) for i, p in enumerate(prompts)}


def scores(drifted: float | None = None, **levels: float) -> Scores:
    """All measures around these means, prompt fidelity on drifted prompts too if asked for."""
    made: Scores = {m: around(levels.get(m, level), FIXED) for m, level in LEVELS.items()}
    return made if drifted is None else made | {"prompt_fidelity": made["prompt_fidelity"] | around(drifted, DRIFTED)}


def rough(made: Scores, measure: Measure, by: float) -> Scores:
    """The measure with alternate prompts higher and lower by this: the same mean, a wider interval."""
    values = made[measure].items()
    return made | {measure: {p: tuple(v + (by, -by)[i % 2] for v in vs) for i, (p, vs) in enumerate(values)}}


def named(decision: GateDecision, name: str) -> Check:
    return next(c for c in decision.checks if c.name == name)


def failed(decision: GateDecision) -> list[str]:
    return [c.name for c in decision.checks if c.verdict == "failed"]


def test_a_better_challenger_is_promoted() -> None:
    decision = decide(scores(**BETTER), scores(), SPEC)
    assert decision.verdict == "promote"
    assert [c.name for c in decision.checks] == ["floor", "speed", "prompt_fidelity better", *GUARDS]
    better = named(decision, "prompt_fidelity better")
    assert (better.value, better.low) == pytest.approx((0.05, 0.05))
    assert decision.reason == "prompt_fidelity +0.050 [+0.050, +0.050] is better; all 7 other checks passed"


def test_a_tie_keeps_the_champion() -> None:
    decision = decide(scores(), scores(), SPEC)
    assert (decision.verdict, failed(decision)) == ("keep", ["prompt_fidelity better"])
    assert named(decision, "prompt_fidelity better").low == 0.0
    assert "not significantly better" in decision.reason


def test_a_difference_by_rounding_is_a_tie() -> None:
    above = {p: tuple(v + 1e-12 for v in values) for p, values in scores()["prompt_fidelity"].items()}
    assert decide(scores() | {"prompt_fidelity": above}, scores(), SPEC).verdict == "keep"


def test_a_gain_that_is_mostly_noise_keeps_the_champion() -> None:
    decision = decide(rough(scores(**BETTER), "prompt_fidelity", 0.2), scores(), SPEC)
    better = named(decision, "prompt_fidelity better")
    assert better.value == pytest.approx(0.05)
    assert better.low is not None
    assert better.low < 0
    assert decision.verdict == "keep"


def test_a_worse_challenger_is_rejected_with_every_reason() -> None:
    decision = decide(scores(0.7, prompt_fidelity=0.7, diversity=0.1), scores(0.9), SPEC, evidence=_with_drift())
    assert failed(decision) == ["floor", "prompt_fidelity better", "prompt_fidelity kept", "diversity kept"]
    assert all(c.says in decision.reason for c in decision.checks if not c.passed)


def _with_drift() -> Evidence:
    return Evidence(drifted=DRIFTED)


@pytest.mark.parametrize(("fidelity", "passes"), [(0.74, False), (0.76, True)])
def test_the_floor_is_absolute(fidelity: float, passes: bool) -> None:
    decision = decide(scores(prompt_fidelity=fidelity), scores(prompt_fidelity=0.5), SPEC)
    assert named(decision, "floor").passed is passes
    assert decision.verdict == ("promote" if passes else "keep")


def test_the_floor_uses_the_fixed_prompts_alone() -> None:
    low = decide(scores(0.3, prompt_fidelity=0.76), scores(0.1, prompt_fidelity=0.7), SPEC, evidence=_with_drift())
    assert low.verdict == "promote"
    assert named(low, "floor").value == pytest.approx(0.76)


@pytest.mark.parametrize(("seconds", "passes"), [(30.5, False), (29.5, True)])
def test_a_slow_challenger_is_rejected(seconds: float, passes: bool) -> None:
    decision = decide(scores(**BETTER, render_seconds=seconds), scores(render_seconds=29), SPEC)
    assert failed(decision) == ([] if passes else ["speed"])


@pytest.mark.parametrize(("mebibytes", "passes"), [(1023, True), (1025, False)])
def test_large_weights_are_rejected(mebibytes: int, passes: bool) -> None:
    decision = decide(scores(**BETTER), scores(), SPEC, evidence=Evidence(size_bytes=mebibytes * 2**20))
    assert failed(decision) == ([] if passes else ["size"])
    assert named(decision, "size").value == mebibytes


@pytest.mark.parametrize(("gap", "passes"), [(0.29, True), (0.31, False)])
def test_groups_of_prompts_must_have_similar_fidelity(gap: float, passes: bool) -> None:
    uneven = scores()["prompt_fidelity"] | around(0.95 + gap, FIXED[6:]) | around(0.95, FIXED[:6])
    groups = {"rings": FIXED[:6], "moons": (*FIXED[6:], "a prompt without trigger")}
    decision = decide(scores() | {"prompt_fidelity": uneven}, scores(), SPEC, evidence=Evidence(groups=groups))
    assert failed(decision) == ([] if passes else ["evenness"])
    assert named(decision, "evenness").value == pytest.approx(gap)
    assert "'rings' is below that of 'moons'" in named(decision, "evenness").says


@pytest.mark.parametrize("evidence", [Evidence(groups={"rings": FIXED, "moons": ("x",)}), Evidence(drifted=("x", "y"))])
def test_unmeasured_prompts_of_the_evidence_keep_the_champion(evidence: Evidence) -> None:
    decision = decide(scores(**BETTER), scores(), SPEC, evidence=evidence)
    assert decision.verdict == "keep"
    assert decision.reason in ("no prompt of 'moons' was measured", "no prompt of 'drifted traffic' was measured")


@pytest.mark.parametrize(("copied", "passes"), [(1, True), (2, False)])
def test_a_challenger_that_copies_is_rejected(copied: int, passes: bool) -> None:
    near = scores()["near_copies"] | dict.fromkeys(FIXED[:copied], (0.99, 0.99, 0.99))
    decision = decide(
        scores(**BETTER) | {"near_copies": near}, scores(near_copies=0.7), SPEC, evidence=Evidence(near_limit=0.98)
    )
    assert failed(decision) == ([] if passes else ["copies"])
    assert named(decision, "copies").value == pytest.approx(copied / 12)


def test_a_refusal_overrides_every_figure() -> None:
    decision = decide(scores(**BETTER), scores(), SPEC, evidence=Evidence(refusals=("picture 3 is black",)))
    assert (decision.verdict, decision.reason) == ("keep", "picture 3 is black")


def test_style_decides_against_the_bare_base() -> None:
    base, evidence = scores(prompt_fidelity=0.8, style_fidelity=0.2), Evidence(bare_base=True)
    decision = decide(scores(), base, SPEC, evidence=evidence)
    assert decision.verdict == "promote"
    assert {c.kind for c in decision.checks} == {"limit", "superiority"}
    unstyled = decide(scores(**BETTER, style_fidelity=0.2), base, SPEC, evidence=evidence)
    assert failed(unstyled) == ["style_fidelity better"]


@pytest.mark.parametrize(
    ("measure", "level"), [("forgetting", 0.16), ("diversity", 0.01), ("near_copies", 0.96), ("prompt_fidelity", 0.74)]
)
@pytest.mark.parametrize("against", ["bare base", "nothing"])
def test_limits_replace_guards_for_a_first_model(measure: str, level: float, against: str) -> None:
    base = scores(style_fidelity=0.2, diversity=0.9) if against == "bare base" else None
    evidence = Evidence(bare_base=base is not None)
    assert decide(scores(), base, SPEC, evidence=evidence).verdict == "promote"
    decision = decide(scores(**{measure: level}), base, SPEC, evidence=evidence)
    assert decision.verdict == "keep"
    assert [c.measure for c in decision.checks if not c.passed] == [measure]


def test_a_first_model_is_compared_with_nothing() -> None:
    decision = decide(scores(), None, SPEC)
    assert {c.kind for c in decision.checks} == {"limit"}
    assert decision.reason == "all 5 checks passed"


def test_two_drifted_prompts_weigh_as_much_as_twelve_fixed() -> None:
    challenger, champion = scores(1.0, prompt_fidelity=0.88), scores(0.9)
    decision = decide(challenger, champion, SPEC, evidence=_with_drift())
    better = named(decision, "prompt_fidelity better")
    assert better.value == pytest.approx((-0.02 + 0.1) / 2)  # pooled it would be -0.003
    assert (better.low, better.high) == pytest.approx((0.04, 0.04)), "all prompts of a set have the same difference"
    assert decision.verdict == "promote"


def test_a_single_drifted_prompt_is_one_of_all() -> None:
    one = scores(**BETTER)["prompt_fidelity"] | {"drifted": (1.0,)}
    decision = decide(
        scores() | {"prompt_fidelity": one},
        scores() | {"prompt_fidelity": scores()["prompt_fidelity"] | {"drifted": (0.9,)}},
        SPEC,
        evidence=Evidence(drifted=("drifted",)),
    )
    better = named(decision, "prompt_fidelity better")
    assert better.value == pytest.approx((12 * 0.05 + 0.1) / 13)
    assert better.low is not None
    assert better.low < better.value
    assert "prompt_fidelity kept" not in [c.name for c in decision.checks]


def test_a_gain_on_drifted_prompts_does_not_offset_a_loss_on_the_fixed() -> None:
    decision = decide(scores(1.0, prompt_fidelity=0.78), scores(0.3), SPEC, evidence=_with_drift())
    assert (decision.verdict, failed(decision)) == ("keep", ["prompt_fidelity kept"])


@pytest.mark.parametrize(("measure", "margin"), [(m, 0.05) for m in MEASURES[1:-1]] + [("render_seconds", 0.5)])
@pytest.mark.parametrize(("part", "verdict"), [(-9.0, "promote"), (0.9, "promote"), (1.1, "keep")])
def test_a_guard_may_be_worse_within_its_margin(measure: Measure, margin: float, part: float, verdict: str) -> None:
    sign = -1 if measure in ("style_fidelity", "diversity") else 1
    decision = decide(scores(**BETTER, **{measure: LEVELS[measure] + sign * part * margin}), scores(), SPEC)
    check = named(decision, f"{measure} kept")
    assert check.limit == pytest.approx(sign * margin), "the margin of render_seconds is a quarter of two seconds"
    assert decision.verdict == verdict
    assert check.passed is (verdict == "promote")
    assert ("is within its margin" if check.passed else "is beyond its margin") in check.says


def test_an_undecided_guard_is_inconclusive_only_if_no_check_failed() -> None:
    better, worse = (rough(scores(prompt_fidelity=f), "diversity", 0.2) for f in (0.95, 0.85))
    open_one = decide(better, scores(), SPEC)
    assert open_one.verdict == "inconclusive"
    assert [c.name for c in unsure(open_one)] == ["diversity kept"]
    assert open_one.reason.endswith("may be beyond its margin -0.050")
    closed = decide(worse, scores(), SPEC)
    assert named(closed, "diversity kept").verdict == "unsure"
    assert (closed.verdict, unsure(closed)) == ("keep", ())


def look(offset: float, check: str = "diversity kept", prompts: tuple[str, ...] = FIXED, seeds: int = 9) -> ExtraSeeds:
    """Further seeds with the same difference on all prompts."""
    return ExtraSeeds(
        check=check,
        challenger=dict.fromkeys(prompts, (0.3 + offset,) * seeds),
        champion=dict.fromkeys(prompts, (0.3,) * seeds),
    )


def settled(*looks: ExtraSeeds, spec: GateSpec = SPEC, by: float = 0.2) -> GateDecision:
    return settle(rough(scores(**BETTER), "diversity", by), scores(), spec, looks)


def test_further_seeds_decide_a_guard() -> None:
    found = settled(look(0.0))
    before, after = (named(d, "diversity kept") for d in (settled(), found))
    assert (found.verdict, after.looks) == ("promote", 2)
    assert (before.high or 0) - (before.low or 0) > 2 * ((after.high or 0) - (after.low or 0))
    kept = settled(look(-0.2))
    assert (kept.verdict, failed(kept)) == ("keep", ["diversity kept"])


def test_looks_of_other_checks_decide_nothing() -> None:
    for name in ("prompt_fidelity better", "style_fidelity kept", "floor"):
        assert settled(look(0.0, name)) == settled()
    assert settled().verdict == "inconclusive"


def test_the_primary_measure_gets_one_look() -> None:
    challenger = rough(rough(scores(**BETTER), "prompt_fidelity", 0.2), "diversity", 0.2)
    again = ExtraSeeds(
        check="prompt_fidelity better", challenger=dict.fromkeys(FIXED, (1.0,)), champion=dict.fromkeys(FIXED, (0.5,))
    )
    first, second = decide(challenger, scores(), SPEC), settle(challenger, scores(), SPEC, [again, look(0.0)])
    assert first == second
    assert second.verdict == "keep"


def test_a_guard_that_stays_undecided_keeps_the_champion() -> None:
    looks = [look(0.0, seeds=1) for _ in range(3)]
    assert [settled(*looks[:n]).verdict for n in range(4)] == ["inconclusive", "inconclusive", "keep", "keep"]
    found = named(settled(*looks), "diversity kept")
    assert (found.verdict, found.looks) == ("failed", 3)
    assert found.says.endswith("may be beyond its margin -0.050, after 3 looks; the champion stays")


def test_without_further_looks_an_undecided_guard_keeps_the_champion() -> None:
    found = settled(look(0.0), spec=GateSpec(resamples=2000, max_looks=0))
    assert (found.verdict, failed(found)) == ("keep", ["diversity kept"])
    assert named(found, "diversity kept").looks == 1


@pytest.mark.parametrize("bad", [look(math.nan), look(0.0, prompts=FIXED[1:]), look(0.0, seeds=0)])
def test_an_unmeasured_look_keeps_the_champion(bad: ExtraSeeds) -> None:
    found = settled(bad)
    assert found.verdict == "keep"
    assert "was not measured on all of its prompts" in found.reason


def test_further_looks_of_prompt_fidelity_use_the_fixed_prompts() -> None:
    challenger, champion = rough(scores(1.2), "prompt_fidelity", 0.15), scores(0.9)
    evidence, name = _with_drift(), "prompt_fidelity kept"
    calm = challenger["prompt_fidelity"] | around(1.2, DRIFTED)
    challenger |= {"prompt_fidelity": calm}
    first = decide(challenger, champion, SPEC, evidence=evidence)
    assert [c.name for c in unsure(first)] == [name]
    assert guarded("prompt_fidelity", challenger, evidence) == FIXED
    more = ExtraSeeds(
        check=name,
        challenger=dict.fromkeys((*FIXED, *DRIFTED), (0.9,) * 9),
        champion=dict.fromkeys(FIXED, (0.9,) * 9) | dict.fromkeys(DRIFTED, (9.0,)),
    )
    found = settle(challenger, champion, SPEC, [more], evidence=evidence)
    assert found.verdict == "promote"
    assert named(found, name).value == pytest.approx(0)
    assert named(found, "prompt_fidelity better") == named(first, "prompt_fidelity better")


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("who", ["challenger", "champion"])
@pytest.mark.parametrize("value", [None, (), (0.5, math.nan, 0.5), (math.inf,) * 3])
def test_missing_or_non_finite_scores_keep_the_champion(
    measure: Measure, who: str, value: tuple[float, ...] | None
) -> None:
    both = {"challenger": scores(**BETTER), "champion": scores()}
    if value is None:
        del both[who][measure]
    else:
        both[who][measure][FIXED[0]] = value
    decision = decide(both["challenger"], both["champion"], SPEC)
    assert (decision.verdict, failed(decision)) == ("keep", ["refused"])
    missing = "was not measured" if not value else "is not a finite number everywhere"
    assert decision.reason == f"{measure} of the {who} {missing}"


def test_scores_of_other_prompts_or_seeds_are_not_compared() -> None:
    champion = scores()
    champion["diversity"].pop(FIXED[3])
    champion["near_copies"][FIXED[3]] = (0.6,)
    decision = decide(scores(**BETTER), champion, SPEC)
    assert decision.verdict == "keep"
    assert decision.reason == (
        "diversity was measured on other prompts for the champion; "
        "near_copies was measured with other seeds for the champion"
    )


def test_one_prompt_is_too_few() -> None:
    one: Scores = {m: {"a": (v,)} for m, v in LEVELS.items()}
    better = one | {"prompt_fidelity": {"a": (1.5,)}}
    assert "on one prompt only" in decide(better, one, SPEC).reason
    assert decide(better, None, SPEC).verdict == "promote", "absolute limits need no spread"


def test_drifted_prompts_alone_are_not_enough() -> None:
    decision = decide(scores(**BETTER), scores(), SPEC, evidence=Evidence(drifted=FIXED))
    assert (decision.verdict, decision.reason) == ("keep", "none of the fixed prompts was measured")


def test_the_order_of_prompts_and_seeds_changes_nothing() -> None:
    def turned(made: Scores) -> Scores:
        return {m: {p: made[m][p][::-1] for p in reversed(made[m])} for m in reversed(MEASURES)}

    challenger, champion = rough(scores(1.0, **BETTER), "forgetting", 0.06), scores(0.93)
    evidence = Evidence(drifted=DRIFTED, groups={"a": FIXED[:5], "b": FIXED[5:]})
    back = Evidence(drifted=DRIFTED[::-1], groups={"b": FIXED[:4:-1], "a": FIXED[4::-1]})
    first = decide(challenger, champion, SPEC, evidence=evidence)
    assert first == decide(turned(challenger), turned(champion), SPEC, evidence=back)


def test_a_decision_round_trips_as_a_document() -> None:
    decision = decide(scores(1.0, **BETTER), scores(0.9), SPEC, evidence=_with_drift())
    assert GateDecision.model_validate_json(decision.model_dump_json()) == decision
    evidence = Evidence(drifted=DRIFTED, groups={"a": FIXED}, near_limit=0.9)
    assert Evidence.model_validate_json(evidence.model_dump_json()) == evidence
    assert ExtraSeeds.model_validate_json(look(0.1).model_dump_json()) == look(0.1)


def test_margins_are_those_of_the_specification() -> None:
    spec = GateSpec(resamples=2000, margins=Margins(diversity=0.2))
    assert decide(scores(**BETTER, diversity=0.15), scores(), SPEC).verdict == "keep"
    assert decide(scores(**BETTER, diversity=0.15), scores(), spec).verdict == "promote"


@pytest.mark.parametrize(("fidelity", "seconds", "passes"), [(0.8, 5.0, True), (0.7, 5.0, False), (0.8, 40.0, False)])
def test_the_founding_gate_checks_floor_and_speed(fidelity: float, seconds: float, passes: bool) -> None:
    made = scores(0.0, prompt_fidelity=fidelity, render_seconds=seconds)
    assert passes_founding_gate(made, FIXED, SPEC) is passes
