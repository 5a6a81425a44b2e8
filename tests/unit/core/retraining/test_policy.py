"""The retrain policy: a pure function, case by case."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from tasks.core.config.presets import PolicySpec
from tasks.core.registry.ledger import Entry
from tasks.core.retraining.decisions import (
    Action,
    RetrainDecision,
    make_decision,
    open_retrain,
    read_decisions,
    record_decision,
    subject_of,
)
from tasks.core.retraining.policy import (
    PastCheck,
    Situation,
    expected_hours,
    make_retrain_decision,
    on_data,
    on_drift,
    spent_hours,
)
from tasks.core.store import FolderStore

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
SPEC = PolicySpec(hits=1, of=1, cooldown_hours=12, weekly_gpu_hours=3, min_new_pictures=10)


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


def check(verdict: str, hours: float, action: Action = "none") -> RetrainDecision:
    fields = {"cause": "drift", "action": action, "reason": "", "verdict": verdict, "generation": 1}
    return RetrainDecision.model_validate(fields | {"id": f"check-{hours}", "time": ago(hours)})


def retrain(hours: float, version: str = "v1") -> RetrainDecision:
    name = f"retrain-{hours}"
    return RetrainDecision(id=name, time=ago(hours), cause="data", action="retrain", reason="", dataset_version=version)


def outcome(of: RetrainDecision, how: str, hours: float, cost: float = 1.0) -> RetrainDecision:
    fields = {"id": f"outcome-{hours}", "time": ago(hours), "cause": "outcome", "action": "none", "reason": ""}
    ended = {"dataset_version": of.dataset_version, "outcome_of": of.id, "outcome": how, "gpu_hours": cost}
    return RetrainDecision.model_validate(fields | ended)


def situation(*history: RetrainDecision, ledger: tuple[Entry, ...] = (entry(),), version: str = "v1") -> Situation:
    drift = [d for d in history if d.cause == "drift"]
    checks = tuple(PastCheck(time=d.time, verdict=d.verdict, generation=d.generation) for d in drift)
    return Situation(now=NOW, history=history, ledger=ledger, checks=checks, dataset_version=version)


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
def test_hysteresis_requires_hits_among_the_last_checks(before: tuple[str, ...], action: str) -> None:
    history = [check(v, hours=len(before) - i) for i, v in enumerate(before)]
    decided, reason = on_drift("retrain", situation(*history), SPEC.model_copy(update={"hits": 2, "of": 3}))
    assert decided == action
    assert ("2 are required" in reason) is (action == "declined")


def test_hysteresis_does_not_count_decisions_on_data() -> None:
    other = retrain(80).model_copy(update={"verdict": "retrain"})
    spec = SPEC.model_copy(update={"hits": 2, "of": 2})
    assert on_drift("retrain", situation(other, outcome(other, "promote", 79)), spec)[0] == "declined"


def test_a_retrain_in_flight_blocks_both_causes() -> None:
    here = situation(running := retrain(2))
    assert open_retrain(here.history) == running
    assert on_drift("retrain", here, SPEC) == ("declined", "retrain retrain-2 is in flight")
    assert on_data(10, here, SPEC) == ("declined", "retrain retrain-2 is in flight")


@pytest.mark.parametrize("how", ["promote", "keep", "failed"])
def test_a_retrain_that_ended_is_not_in_flight(how: str) -> None:
    ended = retrain(5)
    here = situation(ended, outcome(ended, how, 2))
    assert open_retrain(here.history) is None
    assert on_data(10, here, SPEC)[0] == "retrain"


def test_a_retrain_is_in_flight_for_as_long_as_it_has_no_outcome() -> None:
    assert on_drift("retrain", situation(retrain(99)), SPEC)[1].endswith("is in flight")


def spent(*hours: float) -> list[RetrainDecision]:
    return [d for h in hours for d in (retrain(h), outcome(retrain(h), "promote", h - 1))]


def test_the_week_has_a_budget_of_gpu_hours() -> None:
    reason = (
        "budget: 3 GPU-hours were spent in seven days, this retrain takes about 1, policy.weekly_gpu_hours allows 3",
    )
    assert on_drift("retrain", situation(*spent(150, 100, 50)), SPEC)[1] in reason
    assert on_data(10, situation(*spent(150, 100, 50)), SPEC) == ("declined", *reason)
    assert on_drift("retrain", situation(*spent(170, 100, 50)), SPEC)[0] == "retrain", "a week has 168 hours"
    assert on_drift("retrain", situation(*spent(100, 50)), SPEC)[0] == "retrain", "all of it may be used"


def test_no_budget_starts_nothing_not_even_the_first_model() -> None:
    assert on_data(99, situation(ledger=()), SPEC.model_copy(update={"weekly_gpu_hours": 0}))[0] == "declined"


def test_the_budget_is_robust_to_rounding() -> None:
    cheap = [d for h in (100, 80) for d in (retrain(h), outcome(retrain(h), "promote", h - 1, 0.1))]
    assert on_data(10, situation(*cheap), SPEC.model_copy(update={"weekly_gpu_hours": 0.3}))[0] == "retrain"


def test_the_expected_cost_is_the_mean_of_the_last_few() -> None:
    assert expected_hours([], SPEC) == 0.5
    ends = [outcome(retrain(h), "keep", h - 1, h) for h in (70, 60, 50, 40, 30, 20)]
    assert expected_hours(ends, SPEC) == 40, "the last five"
    unlike = [outcome(retrain(9), "failed", 8, 0.01), outcome(retrain(8), "promote", 7, 0.0)]
    assert expected_hours([*ends, *unlike], SPEC) == 40, "neither failed ones nor those whose cost is not known"


def test_spent_hours_are_actual_or_expected() -> None:
    ended = (retrain(60), outcome(retrain(60), "promote", 50, 0.25))
    failed = (retrain(40), outcome(retrain(40), "failed", 39, 0.125))
    running = retrain(2).model_copy(update={"expected_gpu_hours": 2.0})
    assert spent_hours(situation(*ended, *failed), SPEC) == 0.375
    assert spent_hours(situation(*ended, *failed, running), SPEC) == 2.375
    lost = retrain(30)
    assert spent_hours(situation(*ended, lost), SPEC) == 0.5, "one without an outcome counts with its expected cost"
    by_hand = outcome(retrain(5), "keep", 4, 1.5).model_copy(update={"outcome_of": ""})
    assert spent_hours(situation(by_hand), SPEC) == 1.5


def test_a_budget_that_can_never_be_met_reports_its_figures() -> None:
    dear = outcome(retrain(400), "promote", 390, 8.0)
    assert on_data(10, situation(dear), SPEC)[1].startswith("budget: 0 GPU-hours were spent in seven days, this retr")


@pytest.mark.parametrize(("hours", "action"), [(1, "declined"), (11.9, "declined"), (12, "retrain")])
def test_drift_waits_after_a_retrain_that_failed(hours: float, action: str) -> None:
    failed = (retrain(hours + 1), outcome(retrain(hours + 1), "failed", hours, 0.0))
    assert on_drift("retrain", situation(*failed), SPEC)[0] == action
    assert on_data(10, situation(*failed), SPEC)[0] == "retrain", "new data does not wait"


def test_a_decision_states_what_a_retrain_takes() -> None:
    here = situation(outcome(retrain(90), "keep", 80, 0.25), version="v2")
    for ruling in (("retrain", "drift"), ("declined", "hold")):
        made = make_retrain_decision("drift", ruling, here, SPEC, "report", psi=0.3)
        assert (made.action, made.expected_gpu_hours, made.psi) == (ruling[0], 0.25, 0.3)
        assert made.reason == f"{ruling[1]}; a retrain takes about 0.25 GPU-hours"
        assert (made.dataset_version, made.generation, made.time) == ("v2", 1, NOW)
        assert made.id == f"drift-{made.action}-{subject_of('drift', 'report')[:8]}"
    calm = make_retrain_decision("drift", ("none", "the verdict is stable"), here, SPEC, "report")
    assert (calm.expected_gpu_hours, calm.reason) == (0.0, "the verdict is stable")


def test_an_operators_word_and_an_outcome_are_decisions_too() -> None:
    paused = make_decision("operator", NOW, ("pause", "ada: the show"), "pause")
    assert (paused.action, paused.gpu_hours) == ("pause", 0.0)
    ended = make_decision("outcome", NOW, ("none", "better"), "d1", outcome_of="d1", outcome="keep", gpu_hours=0.5)
    assert (ended.outcome, ended.gpu_hours) == ("keep", 0.5)


def test_mode_advise_starts_no_retrain() -> None:
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


def test_a_version_the_gate_rejected_is_not_retrained_for_drift() -> None:
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


def test_decisions_are_read_in_the_order_of_the_ledger(folder: FolderStore) -> None:
    first = record_decision(folder, "adire", check("retrain", 1, "declined"))
    second = record_decision(folder, "adire", retrain(30))
    assert record_decision(folder, "adire", check("retrain", 1, "declined")) == first, "a repeated step"
    record_decision(folder, "other", retrain(2))
    assert read_decisions(folder, "adire") == [first, second]
    assert read_decisions(folder, "nobody") == []


def test_a_decision_is_named_by_its_subject() -> None:
    names = {
        make_decision("drift", NOW, ("none", "calm"), "report-1").id,
        make_decision("drift", ago(1), ("none", "again"), "report-1").id,
    }
    assert len(names) == 1, "whenever it is made"
    assert next(iter(names)).startswith("drift-none-")
    assert len({subject_of("drift", "report-1"), subject_of("data", "report-1"), subject_of("drift", "report-2")}) == 3


def word(action: Action, hours: float) -> RetrainDecision:
    return RetrainDecision(id=f"word-{hours}", time=ago(hours), cause="operator", action=action, reason="ada: the show")


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


TWICE = SPEC.model_copy(update={"hits": 2, "of": 2})


@pytest.mark.parametrize(
    ("before", "action"),
    [
        (check("retrain", 1), "retrain"),
        (check("retrain", 0.2), "declined"),  # by hand, beside the schedule
        (check("retrain", 24 * 8), "declined"),  # the monitor did not run since
        (check("retrain", 1).model_copy(update={"generation": 7}), "declined"),  # against another reference
        (check("retrain", -1), "declined"),  # of a clock that was wrong
    ],
)
def test_hits_are_of_one_reference_and_spaced(before: RetrainDecision, action: str) -> None:
    assert on_drift("retrain", situation(before), TWICE)[0] == action


def test_more_hits_than_checks_are_rejected() -> None:
    with pytest.raises(ValidationError, match="hits=3 of the last 2 checks can never be"):
        PolicySpec(hits=3, of=2)


def later(decision: RetrainDecision, **fields: str) -> RetrainDecision:
    """A decision with a choice that only a later version of the software knows."""
    return decision.model_copy(update=fields)


def test_choices_of_a_later_version_are_none_of_the_known_ones() -> None:
    unknown = later(word("pause", 1), action="freeze")
    assert on_drift("retrain", situation(word("pause", 3), unknown), SPEC)[1].startswith(
        "paused since 2026-03-10 09:00"
    )
    assert on_drift("retrain", situation(unknown), SPEC)[0] == "retrain"
    first = retrain(30)
    ended = later(outcome(first, "keep", 29), outcome="expired")
    assert open_retrain((first, ended)) is None
    assert on_drift("retrain", situation(first, ended), SPEC)[0] == "retrain", "the gate has not kept the champion"
    assert open_retrain((later(retrain(2), cause="season"),)) is not None
    assert on_drift("slow_shift", situation(), SPEC) == ("none", "the verdict is slow_shift")
    imported = (entry(1, 100), later_entry(entry(2, 50), "import"))
    assert on_drift("retrain", situation(ledger=imported), SPEC)[0] == "retrain"


def later_entry(known: Entry, action: str) -> Entry:
    return known.model_copy(update={"action": action})


def test_a_mode_of_a_later_version_starts_no_retrain() -> None:
    spec = SPEC.model_copy(update={"mode": "weekends"})
    assert on_drift("retrain", situation(), spec) == ("declined", "mode weekends: a person starts retrain-model")
