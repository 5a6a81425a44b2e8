"""The retrain policy: a pure function, case by case."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.core.policy import (
    Action,
    Decision,
    Situation,
    decision_id,
    decisions,
    in_flight,
    on_data,
    on_drift,
    record,
)
from tasks.core.registry.ledger import Entry
from tasks.core.specs import PolicySpec
from tasks.core.store import FolderStore

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
SPEC = PolicySpec(hits=1, of=1, cooldown_hours=12, weekly_budget=3, stale_hours=24, min_new_pictures=10)


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def entry(generation: int = 1, hours: float = 100, action: str = "promote", version: str = "v1") -> Entry:
    return Entry.model_validate(
        {
            "generation": generation,
            "action": action,
            "release": f"release-{generation}",
            "dataset_version": version,
            "evaluation": "e",
            "actor": "gate",
            "reason": "better",
            "time": ago(hours),
        }
    )


def check(verdict: str, hours: float, action: Action = "none") -> Decision:
    return Decision(id=f"check-{hours}", time=ago(hours), cause="drift", action=action, reason="", verdict=verdict)


def retrain(hours: float, version: str = "v1") -> Decision:
    name = f"retrain-{hours}"
    return Decision(id=name, time=ago(hours), cause="data", action="retrain", reason="", dataset_version=version)


def outcome(of: Decision, how: str, hours: float) -> Decision:
    told = {"id": f"outcome-{hours}", "time": ago(hours), "cause": "outcome", "action": "none", "reason": ""}
    ended = {"dataset_version": of.dataset_version, "outcome_of": of.id, "outcome": how}
    return Decision.model_validate(told | ended)


def situation(*history: Decision, ledger: tuple[Entry, ...] = (entry(),), version: str = "v1") -> Situation:
    return Situation(now=NOW, history=history, ledger=ledger, dataset_version=version)


def test_the_first_dataset_trains_the_first_model() -> None:
    assert on_data(1, situation(ledger=()), SPEC) == ("retrain", "there is no champion yet")


@pytest.mark.parametrize(("new", "action"), [(9, "declined"), (10, "retrain"), (11, "retrain")])
def test_enough_new_pictures_start_a_retrain(new: int, action: str) -> None:
    decided, reason = on_data(new, situation(), SPEC)
    assert decided == action
    assert f"{new} new pictures" in reason


def test_new_pictures_do_not_wait_for_the_cool_down() -> None:
    assert on_data(10, situation(ledger=(entry(hours=1),)), SPEC)[0] == "retrain"


@pytest.mark.parametrize("verdict", ["stable", "warn", "provisional", "insufficient_data"])
def test_only_the_verdict_retrain_can_retrain(verdict: str) -> None:
    assert on_drift(verdict, situation(), SPEC) == ("none", f"the verdict is {verdict}")


@pytest.mark.parametrize(("hours", "action"), [(1, "declined"), (11.9, "declined"), (12, "retrain"), (90, "retrain")])
def test_drift_waits_for_the_cool_down(hours: float, action: str) -> None:
    decided, reason = on_drift("retrain", situation(ledger=(entry(hours=hours),)), SPEC)
    assert decided == action
    assert ("cool-down" in reason) is (action == "declined")


@pytest.mark.parametrize(
    ("before", "action"),
    [
        ((), "declined"),
        (("retrain",), "retrain"),
        (("retrain", "stable"), "retrain"),
        (("stable", "stable"), "declined"),
        (("retrain", "stable", "stable"), "declined"),  # too long ago
    ],
)
def test_hysteresis_asks_for_hits_among_the_last_checks(before: tuple[str, ...], action: str) -> None:
    history = [check(v, hours=len(before) - i) for i, v in enumerate(before)]
    decided, reason = on_drift("retrain", situation(*history), SPEC.model_copy(update={"hits": 2, "of": 3}))
    assert decided == action
    assert ("2 are asked for" in reason) is (action == "declined")


def test_hysteresis_does_not_count_decisions_on_data() -> None:
    other = retrain(80).model_copy(update={"verdict": "retrain"})
    spec = SPEC.model_copy(update={"hits": 2, "of": 2})
    assert on_drift("retrain", situation(other, outcome(other, "promote", 79)), spec)[0] == "declined"


def test_a_retrain_in_flight_blocks_both_causes() -> None:
    here = situation(running := retrain(2))
    assert in_flight(here, SPEC) == running
    assert on_drift("retrain", here, SPEC) == ("declined", "retrain retrain-2 is in flight")
    assert on_data(10, here, SPEC) == ("declined", "retrain retrain-2 is in flight")


@pytest.mark.parametrize("how", ["promote", "keep", "failed"])
def test_a_retrain_that_ended_is_not_in_flight(how: str) -> None:
    ended = retrain(5)
    here = situation(ended, outcome(ended, how, 2))
    assert in_flight(here, SPEC) is None
    assert on_data(10, here, SPEC)[0] == "retrain"


def test_a_stale_retrain_no_longer_blocks() -> None:
    assert in_flight(situation(retrain(25)), SPEC) is None
    assert on_drift("retrain", situation(retrain(25)), SPEC)[0] == "retrain"


def spent(*hours: float) -> list[Decision]:
    return [d for h in hours for d in (retrain(h), outcome(retrain(h), "promote", h - 1))]


def test_the_weekly_budget_is_a_limit() -> None:
    assert on_drift("retrain", situation(*spent(150, 100, 50)), SPEC)[1].startswith("budget: 3 retrains")
    assert on_data(10, situation(*spent(150, 100, 50)), SPEC)[0] == "declined"
    assert on_drift("retrain", situation(*spent(170, 100, 50)), SPEC)[0] == "retrain", "a week has 168 hours"


def test_no_budget_starts_nothing_not_even_the_first_model() -> None:
    assert on_data(99, situation(ledger=()), SPEC.model_copy(update={"weekly_budget": 0}))[0] == "declined"


def test_advise_leaves_it_to_a_person() -> None:
    spec = SPEC.model_copy(update={"mode": "advise"})
    for action, reason in (on_drift("retrain", situation(), spec), on_data(10, situation(), spec)):
        assert action == "declined"
        assert "advise" in reason


def test_a_roll_back_holds_drift_until_there_is_new_data() -> None:
    ledger = (entry(1, 90), entry(2, 80), entry(3, 50, "roll_back"))
    held = on_drift("retrain", situation(ledger=ledger), SPEC)
    assert held[0] == "declined"
    assert "hold: generation 3" in held[1]
    assert on_drift("retrain", situation(ledger=ledger, version="v2"), SPEC)[0] == "retrain"
    assert on_data(10, situation(ledger=ledger, version="v2"), SPEC)[0] == "retrain"


def test_a_promotion_after_the_roll_back_releases_the_hold() -> None:
    ledger = (entry(1, 90), entry(2, 80, "roll_back"), entry(3, 50))
    assert on_drift("retrain", situation(ledger=ledger), SPEC)[0] == "retrain"


def test_a_version_the_gate_has_turned_down_is_not_tried_again_for_drift() -> None:
    kept = retrain(40)
    history = (kept, outcome(kept, "keep", 39))
    action, reason = on_drift("retrain", situation(*history), SPEC)
    assert action == "declined"
    assert "dataset version v1" in reason
    assert on_drift("retrain", situation(*history, version="v2"), SPEC)[0] == "retrain"


def test_the_policy_is_a_pure_function() -> None:
    here = situation(*spent(100, 50))
    before = here.model_dump_json()
    assert on_drift("retrain", here, SPEC) == on_drift("retrain", here, SPEC)
    assert here.model_dump_json() == before


def test_decisions_are_kept_in_the_order_of_time(folder: FolderStore) -> None:
    late, early = check("retrain", 1, "declined"), retrain(30)
    for decision in (late, early, late):
        record(folder, "adire", decision)
    record(folder, "other", retrain(2))
    assert decisions(folder, "adire") == [early, late]
    assert decisions(folder, "nobody") == []


def test_a_decision_is_named_by_its_time_and_content() -> None:
    name = decision_id("drift", NOW, "report-1")
    assert name.startswith("20260310T120000-")
    assert name == decision_id("drift", NOW, "report-1")
    assert len({name, decision_id("data", NOW, "report-1"), decision_id("drift", NOW, "report-2")}) == 3


def word(action: Action, hours: float) -> Decision:
    return Decision(id=f"word-{hours}", time=ago(hours), cause="operator", action=action, reason="ada: the show")


def test_a_pause_stops_every_cause_until_it_ends() -> None:
    paused = situation(word("pause", 3))
    for action, reason in (on_data(10, paused, SPEC), on_drift("retrain", paused, SPEC)):
        assert action == "declined"
        assert "paused since 2026-03-10 09:00 (ada: the show)" in reason
    assert on_data(1, situation(word("pause", 3), ledger=()), SPEC)[0] == "declined"
    resumed = situation(word("pause", 3), word("resume", 1))
    assert on_data(10, resumed, SPEC)[0] == "retrain"
    assert on_drift("retrain", resumed, SPEC)[0] == "retrain"


def test_resume_releases_a_roll_back_that_it_came_after() -> None:
    ledger = (entry(1, 100), entry(2, 50), entry(3, 20, action="roll_back"))
    early = on_drift("retrain", situation(word("resume", 30), ledger=ledger), SPEC)
    assert early[0] == "declined"
    assert "hold" in early[1]
    assert on_drift("retrain", situation(word("resume", 1), ledger=ledger), SPEC)[0] == "retrain"
