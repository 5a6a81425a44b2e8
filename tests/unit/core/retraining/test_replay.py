"""The dry run: past checks decided again."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.core.config.drift import DriftSpec
from tasks.core.config.presets import PolicySpec
from tasks.core.drift.detector import DriftReport
from tasks.core.monitoring.records import DriftRecord
from tasks.core.registry.ledger import Entry
from tasks.core.retraining.decisions import RetrainDecision, make_decision
from tasks.core.retraining.policy import PastCheck, Situation, make_retrain_decision, on_drift
from tasks.core.retraining.replay import ReplayedCheck, fired, judge, replay

START = datetime(2026, 3, 1, tzinfo=UTC)
SPEC = PolicySpec(hits=1, of=1, cooldown_hours=12, weekly_gpu_hours=2, expected_gpu_hours=0.5)
LENIENT = DriftSpec(retrain_psi=0.5)
STRICT = DriftSpec(retrain_psi=0.15)


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def seen(hour: float, psi: float | None, n: float = 500, verdict: str = "") -> DriftRecord:
    """A check with this PSI, far from chance; None is one without a reference."""
    judged = verdict or ("provisional" if psi is None else "retrain" if psi >= 0.2 else "stable")
    drift: dict[str, object] = {
        "psi": psi,
        "psi_raw": 1.0,
        "p_value": 1e-5,
        "threshold": 0.2,
        "n": int(n),
        "n_effective": n,
    }
    drift |= {"verdict": "stable" if judged == "provisional" else judged, "new_traffic_share": 0.1, "histogram": []}
    return DriftRecord(
        key=f"models/adire/drift/reports/{hour}/report.json",
        time=at(hour),
        start=at(hour - 24),
        end=at(hour),
        generation=1,
        verdict=judged,
        says="",
        requests=int(n),
        reference_requests=4000,
        drift=None if psi is None else DriftReport.model_validate(drift),
    )


def entry(generation: int, hour: float, action: str = "promote", version: str = "v1") -> Entry:
    fields = {"generation": generation, "action": action, "release": "r", "dataset_version": version, "evaluation": "e"}
    return Entry.model_validate(fields | {"actor": "gate", "reason": "better", "time": at(hour)})


FIRST = entry(1, -100)


def past(
    records: list[DriftRecord], ends: dict[float, str], spec: PolicySpec = SPEC
) -> tuple[list[Entry], list[RetrainDecision]]:
    """Decisions of the real policy at each check; `ends` are the outcomes of its retrains by hour."""
    ledger, history = [FIRST], list[RetrainDecision]()
    for record in records:
        before = tuple(d for d in history if d.time < record.time)
        entries = tuple(e for e in ledger if e.time < record.time)
        checks = tuple(
            PastCheck(
                time=r.time, verdict=r.verdict, generation=entries[-1].generation if r.time > entries[-1].time else 0
            )
            for r in records
            if r.time < record.time
        )
        here = Situation(now=record.time, history=before, ledger=entries, checks=checks, dataset_version="v1")
        ruling = on_drift(record.verdict, here, spec)
        made = make_retrain_decision("drift", ruling, here, spec, record.key, verdict=record.verdict, report=record.key)
        if made.action != "none":
            history.append(made)
        if made.action == "retrain":
            how = ends[(record.time - START) / timedelta(hours=1)]
            history.append(outcome(made, how, record.time + timedelta(minutes=20), len(ledger) + 1))
            if how == "promote":
                ledger.append(entry(len(ledger) + 1, (history[-1].time - START) / timedelta(hours=1)))
    return ledger, history


def outcome(of: RetrainDecision, how: str, time: datetime, generation: int = 0) -> RetrainDecision:
    ended = make_decision("outcome", time, ("none", how), of.id, dataset_version="v1", outcome_of=of.id, gpu_hours=0.3)
    return RetrainDecision.model_validate(ended.model_dump() | {"outcome": how, "generation": generation})


def actions(reruns: list[ReplayedCheck]) -> list[str]:
    return [r.now.action for r in reruns]


@pytest.mark.parametrize(
    ("record", "spec", "verdict"),
    [
        (seen(1, 0.3), None, "retrain"),
        (seen(1, 0.3), LENIENT, "warn"),
        (seen(1, 0.18), STRICT, "retrain"),
        (seen(1, 0.3), DriftSpec(min_effective=600), "insufficient_data"),
        (seen(1, None), STRICT, "provisional"),
        (seen(1, 0.9, verdict="provisional"), STRICT, "provisional"),
    ],
)
def test_a_verdict_follows_from_the_stored_numbers(record: DriftRecord, spec: DriftSpec | None, verdict: str) -> None:
    assert judge(record, spec) == verdict


HOURS = [seen(h, 0.3 if h in (5, 6, 20, 40, 41, 90) else 0.05) for h in range(100)]


@pytest.mark.parametrize("ends", [("promote", "promote", "promote"), ("failed", "promote", "keep")])
def test_the_same_policy_reproduces_the_past(ends: tuple[str, ...]) -> None:
    ledger, history = past(HOURS, dict(zip((5.0, 20.0, 40.0), ends, strict=True)) | {90.0: "promote"})
    reruns = replay(HOURS, ledger, history, SPEC)
    then = [(r.then.action, r.then.reason) if r.then else ("none", r.now.reason) for r in reruns]
    assert then == [(r.now.action, r.now.reason) for r in reruns]
    assert actions(reruns).index("retrain") == 5
    assert fired(reruns)[1] == pytest.approx(0.3 * fired(reruns)[0]), "real outcomes have their real cost"


def test_the_order_of_the_records_does_not_matter() -> None:
    ledger, history = past(HOURS, dict.fromkeys((5.0, 20.0, 40.0, 90.0), "promote"))
    assert replay(HOURS[::-1], ledger, history[::-1], SPEC) == replay(HOURS, ledger, history, SPEC)


def test_a_higher_threshold_would_not_have_fired() -> None:
    ledger, history = past(HOURS, dict.fromkeys((5.0, 20.0, 40.0, 90.0), "promote"))
    reruns = replay(HOURS, ledger, history, SPEC, LENIENT)
    assert set(actions(reruns)) == {"none"}
    assert reruns[5].then
    assert reruns[5].then.action == "retrain"
    assert fired(reruns) == (0, 0.0)


def test_a_simulated_retrain_is_promoted_and_starts_the_cool_down() -> None:
    records = [seen(h, 0.18) for h in range(20)]
    ledger, history = past(records, {})
    reruns = replay(records, ledger, history, SPEC, STRICT)
    assert actions(reruns) == ["retrain", *["declined"] * 12, "retrain", *["declined"] * 6]
    assert "in flight" not in reruns[1].now.reason, "half an hour later it has ended"
    assert "cool-down: generation 2" in reruns[1].now.reason
    assert fired(reruns) == (2, 1.0)


def test_a_long_simulated_retrain_is_in_flight() -> None:
    records = [seen(h, 0.3) for h in range(5)]
    spec = SPEC.model_copy(update={"expected_gpu_hours": 2.5, "weekly_gpu_hours": 5, "cooldown_hours": 0})
    reasons = [r.now.reason for r in replay(records, [FIRST], [], spec)]
    assert ["in flight" in reason for reason in reasons] == [False, True, True, False, True]


def test_the_real_promotion_of_a_retrain_that_does_not_fire_is_excluded() -> None:
    records = [seen(0, 0.21), seen(4, 0.6)]
    ledger, history = past(records, {0.0: "promote"})
    assert [d.action for d in history if d.cause == "drift"] == ["retrain", "declined"], "the cool-down of the first"
    assert actions(replay(records, ledger, history, SPEC, LENIENT)) == ["none", "retrain"]


def test_decisions_of_people_and_on_data_are_unchanged() -> None:
    records = [seen(h, 0.3) for h in (10, 20, 30)]
    pause = make_decision("operator", at(5), ("pause", "ada: the show"), "pause")
    resume = make_decision("operator", at(15), ("resume", "ada: over"), "resume")
    data = make_decision("data", at(19), ("retrain", "many pictures"), "v2", dataset_version="v2")
    done = outcome(data, "promote", at(22), 2)
    ledger = [FIRST, entry(2, 22, version="v2")]
    reasons = [r.now.reason for r in replay(records, ledger, [pause, resume, data, done], SPEC)]
    assert [reason.split()[0] for reason in reasons] == ["paused", "retrain", "cool-down:"]


def test_decisions_before_the_first_record_are_unchanged() -> None:
    ledger, history = past(HOURS, dict.fromkeys((5.0, 20.0, 40.0, 90.0), "promote"))
    late = replay(HOURS[10:], ledger, history, SPEC)
    assert [r.now.action for r in late] == [r.now.action for r in replay(HOURS, ledger, history, SPEC)[10:]]


def test_the_budget_counts_what_the_dry_run_spends() -> None:
    records = [seen(24 * day, 0.3) for day in range(14)]
    spec = SPEC.model_copy(update={"weekly_gpu_hours": 1.0})
    reruns = replay(records, [FIRST], [], spec)
    assert [i for i, action in enumerate(actions(reruns)) if action == "retrain"] == [0, 1, 8, 9]
    assert "budget: 1 GPU-hours were spent" in reruns[2].now.reason


def test_hysteresis_looks_at_the_verdicts_as_judged_again() -> None:
    records = [seen(0, 0.3), seen(1, 0.7), seen(2, 0.3), seen(3, 0.7)]
    spec = SPEC.model_copy(update={"hits": 2, "of": 3})
    assert actions(replay(records, [FIRST], [], spec, LENIENT)) == ["none", "declined", "none", "retrain"]


def test_replaying_months_is_fast() -> None:
    records = [seen(h, 0.3 if h % 7 == 0 else 0.0) for h in range(90 * 24)]
    reruns = replay(records, [FIRST], [], SPEC)
    assert len(reruns) == 90 * 24
    assert 3 * 12 <= fired(reruns)[0] <= 4 * 14
