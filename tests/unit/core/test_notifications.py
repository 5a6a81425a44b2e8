"""What people are told: what happened, to which generation, who wanted it and why."""

from datetime import UTC, datetime

from tasks.core.gate.decide import GateDecision
from tasks.core.notifications import promotion_notification, roll_back_notification, withdrawal_notification
from tasks.core.registry.ledger import Entry
from tasks.core.registry.results import PromotionResult

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def result(verdict: str, generation: int) -> PromotionResult:
    decision = GateDecision.model_validate(
        {"verdict": verdict, "reason": "mean CLIPScore 0.8 is at least 0.75", "checks": ()}
    )
    release = "ab12" if generation else ""
    return PromotionResult(
        model="adire", key="k", finished=NOW, evaluation="e7", decision=decision, generation=generation, release=release
    )


def rolled_back(release: str, restores: int, actor: str = "ada") -> Entry:
    return Entry(
        generation=5,
        action="roll_back",
        release=release,
        dataset_version="v",
        restores=restores,
        abandons="cd34",
        actor=actor,
        reason="too blue!",
        time=NOW,
    )


def test_a_promotion_names_generation_verdict_and_where_to_look() -> None:
    notice = promotion_notification("adire", result("promote", 4))
    assert (notice.event, notice.generation, notice.verdict) == ("promoted", 4, "promote")
    assert notice.subject == "adire: generation 4 is the champion"
    assert notice.text.splitlines() == [
        "Generation 4 of model adire (release ab12) was promoted by the gate.",
        "The gate's verdict: promote. mean CLIPScore 0.8 is at least 0.75.",
        "Evaluation: results/evaluate/e7.json",
        "Release: models/adire/releases/ab12/",
    ]


def test_a_person_who_overrules_the_gate_is_named_with_the_reason() -> None:
    notice = promotion_notification("adire", result("keep", 4), "ada", "the show opens tonight")
    assert (notice.event, notice.verdict, notice.reason) == ("promoted", "keep", "the show opens tonight")
    assert "promoted by ada, who overruled the gate: the show opens tonight." in notice.text


def test_a_champion_that_stays_is_told_with_the_reason() -> None:
    notice = promotion_notification("adire", result("keep", 0))
    assert (notice.event, notice.generation, notice.subject) == ("kept", 0, "adire: the champion stays")
    assert "was not promoted" in notice.text
    assert notice.reason in notice.text


def test_a_roll_back_says_what_is_served_and_what_follows() -> None:
    notice = roll_back_notification("adire", rolled_back("ab12", 3))
    assert (notice.event, notice.generation) == ("rolled_back", 5)
    assert notice.subject == "adire: rolled back to generation 3 (release ab12)"
    assert "Asked for by ada: too blue!\n" in notice.text
    assert "Release cd34 was left" in notice.text
    assert "models/adire/promotions/000005.json" in notice.text
    bare = roll_back_notification("adire", rolled_back("", 0, "storefront guard"))
    assert bare.subject == "adire: rolled back to the bare base"
    assert "Asked for by storefront guard" in bare.text


def test_a_withdrawal_says_where_it_is_not_finished() -> None:
    notice = withdrawal_notification(
        "adire", "ab12", "ada", "a picture had to go", 0, ("s3://public: no answer", "the Hub: 401")
    )
    assert "Withdrawal pending, retried by reconcile-champion: s3://public: no answer\n" in notice.text
    assert "Withdrawal pending, retried by reconcile-champion: the Hub: 401\n" in notice.text


def test_a_withdrawal_says_what_takes_its_place() -> None:
    notice = withdrawal_notification("adire", "ab12", "ada", "a picture had to go", 6)
    assert (notice.event, notice.generation, notice.verdict) == ("withdrawn", 6, "withdraw")
    assert "Release ab12 of model adire was withdrawn" in notice.text
    assert "Generation 6 is served in its place." in notice.text
    assert "in its place" not in withdrawal_notification("adire", "ab12", "ada", "a picture had to go").text
