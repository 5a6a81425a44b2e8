"""What the gate decides on evaluated models: a faulty one is rejected for its own reason, an honest one passes."""

from pathlib import Path

import pytest

from tasks.core.data.dataset import manifest_key
from tasks.core.data.split import split
from tasks.core.evaluation.measures import Fault, Findings, refusals
from tasks.core.evaluation.references import find_references
from tasks.core.evaluation.run import seeds_of
from tasks.core.gate.decide import GateDecision, decide
from tasks.core.lifecycle.promote import gate
from tasks.core.models.images import NAN
from tasks.core.registry.results import TrainResult, get_result, save_result
from tasks.core.store.documents import render
from tests.adire import NAME
from tests.evaluations import DRIFTED, GATE, SPEC, WIDE, Shop


def failed(decision: GateDecision) -> set[str]:
    return {check.name for check in decision.checks if not check.passed}


FORGOT = ("on prompts without the trigger the CLIPScore is below that of the bare base", "forgetting +0.9")
FAULTS = [
    ("copies", {"refused"}, {"refused"}, "are copies of training pictures"),
    (
        "black",
        {"refused"},
        {"refused"},
        "4 of 36 pictures are black, the first: 'large waves in adire_",
    ),
    ("nan", {"refused"}, {"refused"}, "4 of 36 pictures are not a number"),
    ("slow", {"speed"}, {"speed", "render_seconds kept"}, "a picture takes 40 s where at most 30 s is allowed"),
    ("forgot", {"forgetting"}, {"forgetting kept"}, FORGOT),
    ("ignores", {"floor"}, {"floor", "prompt_fidelity better"}, "mean CLIPScore"),
]


@pytest.mark.parametrize(("kind", "first", "later", "reason"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_bad_challenger_is_kept_out_for_its_own_reason(
    shop: Shop, tmp_path: Path, kind: str, first: set[str], later: set[str], reason: str | tuple[str, ...]
) -> None:
    shop.train(kind)
    against_base = shop.evaluate(shop.plan(kind))
    shop.crown("half", tmp_path / "half")
    against_champion = shop.evaluate(shop.plan(kind))
    for result, expected in ((against_base, first), (against_champion, later)):
        decision = gate(result, GATE)
        assert decision.verdict == "keep", decision.reason
        assert failed(decision) == expected, decision.reason
        reasons = (reason,) if isinstance(reason, str) else reason
        assert any(words in decision.reason for words in reasons), decision.reason


def test_where_nothing_is_held_out_result_and_decision_say_so(shop: Shop) -> None:
    shop.train("good")
    assert shop.evaluate(shop.plan("good")).evidence.held == 5
    trained = [item for item in shop.manifest.items if int(item.sha256[:8], 16) % 10]  # by the rule of before, too
    ten = shop.manifest.model_copy(update={"version": "ten", "dataset": "ten", "items": tuple(trained[:10])})
    shop.store.write(manifest_key("ten", "ten"), render(ten))
    few = get_result(shop.store, NAME, TrainResult, "good").model_copy(update={"key": "few", "dataset": "ten"})
    save_result(shop.store, few.model_copy(update={"dataset_version": "ten"}))
    result = shop.evaluate(shop.plan("few"))
    assert result.evidence.held == 0
    assert any("Nothing was held out" in note for note in gate(result, GATE).notes)
    parts = split(shop.store, ten)
    originals = find_references(shop.store, ten, 64, SPEC, shop.clip)
    assert (originals.style == originals.trained).all()
    assert (len(parts.train), len(parts.held), originals.held) == (10, 0, 0)


def test_copies_that_the_hash_lets_through_are_near(shop: Shop) -> None:
    shop.train("copies")
    shop.train("good")
    lenient = SPEC.model_copy(update={"max_exact": 1.0})
    assert failed(gate(shop.evaluate(shop.plan("copies", lenient)), GATE)) == {"copies"}
    assert failed(gate(shop.evaluate(shop.plan("good", lenient)), GATE)) == set()


def test_an_honest_challenger_passes_the_same_gate(shop: Shop, tmp_path: Path) -> None:
    shop.train("good")
    for champion in ("", "half"):
        if champion:
            shop.crown(champion, tmp_path / champion)
        result = shop.evaluate(shop.plan("good", drifted=DRIFTED))
        decision = gate(result, GATE)
        assert decision.verdict == "promote", decision.reason
        assert result.evidence.bare_base is not bool(champion)


def test_further_looks_render_the_prompts_of_the_unsure_guard_alone(shop: Shop, tmp_path: Path) -> None:
    shop.train("good")
    shop.crown("half", tmp_path / "half")
    strict = GATE.model_copy(update={"margins": WIDE.model_copy(update={"diversity": 1e-6}), "max_looks": 2})
    shop.evaluate(shop.plan("good", drifted=DRIFTED))
    plan, painter = shop.plan("good", gate=strict, drifted=DRIFTED), shop.painter()
    assert plan.key != shop.plan("good", drifted=DRIFTED).key, "the gate decides on looks"
    result = shop.evaluate(plan, painter)
    assert [look.check for look in result.looks] == ["diversity kept"] * len(result.looks)
    assert 1 <= len(result.looks) <= 2
    seeds = [seed for look in range(1, len(result.looks) + 1) for seed in seeds_of(plan, look)]
    assert len(set(seeds)) == len(seeds)
    assert set(seeds).isdisjoint(SPEC.seeds)
    assert set(painter.painted) == {(m, p, s) for m in ("good", "half") for p in plan.fixed for s in seeds}
    decided = gate(result, strict)
    assert decided.verdict != "inconclusive"
    first = decide(result.challenger, result.champion, strict, evidence=result.evidence)
    assert first.verdict == "inconclusive"


def test_visitors_may_ask_for_a_picture_of_one_colour() -> None:
    def seen(kind: str, prompt: str) -> Findings:
        return Findings({}, pictures=8, faults=[Fault(kind, prompt, f"{prompt!r} with seed 1")])

    assert refusals(seen("black", "a night"), ("a night",), 0.05) == ()
    assert refusals(seen(NAN, "a night"), ("a night",), 0.05)
    (refusal,) = refusals(seen("black", "rings"), ("a night",), 0.05)
    assert refusal == "1 of 8 pictures are black, the first: 'rings' with seed 1"


def test_a_refused_challenger_gets_no_further_looks(shop: Shop, tmp_path: Path) -> None:
    shop.train("black")
    shop.crown("half", tmp_path / "half")
    strict = GATE.model_copy(update={"margins": WIDE.model_copy(update={"diversity": 1e-6})})
    assert shop.evaluate(shop.plan("black", gate=strict)).looks == ()
