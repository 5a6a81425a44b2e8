"""A dry run: past drift checks decided again with another policy or other thresholds.

Decisions of people and on data are unchanged; only those on drift are replayed. A replayed retrain that was really
started has its real outcome; any other is assumed to be promoted after its expected time.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

from tasks.core.config.drift import DriftSpec
from tasks.core.config.presets import PolicySpec
from tasks.core.drift.detector import verdict_of
from tasks.core.monitoring.records import DriftRecord
from tasks.core.registry.ledger import Entry
from tasks.core.retraining import policy
from tasks.core.retraining.decisions import RetrainDecision, make_decision
from tasks.core.store.documents import Document

MOST_CHECKS = 1000  # that a policy can look back on


class ReplayedCheck(Document):
    """A check's replayed decision, beside the original one."""

    then: RetrainDecision | None
    now: RetrainDecision
    gpu_hours: float = 0.0  # of the retrain that it starts


def replay(
    records: Sequence[DriftRecord],
    ledger: Sequence[Entry],
    history: Sequence[RetrainDecision],
    spec: PolicySpec,
    drift: DriftSpec | None = None,
) -> list[ReplayedCheck]:
    """Decide each check again, oldest first; without `drift` its verdict is unchanged."""
    past = _Past(records, ledger, history, spec)
    return [past.decide(record, judge(record, drift)) for record in sorted(records, key=lambda r: r.time)]


def judge(record: DriftRecord, drift: DriftSpec | None) -> str:
    """The verdict on a check's stored figures by these thresholds."""
    found = record.drift
    if drift is None or found is None or record.verdict == "provisional":
        return record.verdict
    return verdict_of(found.psi, found.p_value, found.n_effective, drift)


class _Past:
    """The history up to a check, with the replayed decisions on drift."""

    def __init__(
        self,
        records: Sequence[DriftRecord],
        ledger: Sequence[Entry],
        history: Sequence[RetrainDecision],
        spec: PolicySpec,
    ) -> None:
        reports = {record.key for record in records}
        self.spec = spec
        self.then = {d.report: d for d in history if d.cause == "drift" and d.report in reports}
        replayed = {d.id for d in self.then.values()}
        self.outcomes = {d.outcome_of: d for d in history if d.outcome_of in replayed}
        won = {d.generation: d.id for d in self.outcomes.values() if d.outcome == "promote"}
        self.entries = {won[e.generation]: e for e in ledger if e.generation in won}
        self.ledger = [e for e in ledger if e.generation not in won]
        others = [d for d in history if d.id not in replayed and d.outcome_of not in replayed]
        self.others = sorted(others, key=lambda d: d.time)
        self.retrains: list[RetrainDecision] = []  # replayed, with their outcomes
        self.checks: deque[policy.PastCheck] = deque(maxlen=MOST_CHECKS)

    def decide(self, record: DriftRecord, verdict: str) -> ReplayedCheck:
        then, situation = self.then.get(record.key), self._situation(record)
        decision = policy.make_retrain_decision(
            "drift",
            policy.on_drift(verdict, situation, self.spec),
            situation,
            self.spec,
            record.key,
            psi=record.drift.psi if record.drift else None,
            verdict=verdict,
            report=record.key,
        )
        self.checks.append(policy.PastCheck(time=record.time, verdict=verdict, generation=decision.generation))
        if decision.action != "retrain":
            return ReplayedCheck(then=then, now=decision)
        outcome = (then and self.outcomes.get(then.id)) or _assume(decision)
        self.retrains += [decision, outcome.model_copy(update={"outcome_of": decision.id})]
        return ReplayedCheck(then=then, now=decision, gpu_hours=outcome.gpu_hours)

    def _situation(self, record: DriftRecord) -> policy.Situation:
        time = record.time
        others = self.others[: bisect_left(self.others, time, key=lambda d: d.time)]
        made = [d for d in self.retrains if d.time < time]
        history = tuple(sorted((*others, *made), key=lambda d: d.time))
        entries = sorted((e for e in self._ledger() if e.time < time), key=lambda e: e.time)
        newest = self.then.get(record.key) or next((d for d in reversed(history) if d.dataset_version), None)
        return policy.Situation(
            now=time,
            history=history,
            ledger=tuple(entries),
            checks=tuple(self.checks),
            dataset=newest.dataset if newest else "",
            dataset_version=newest.dataset_version if newest else "",
        )

    def _ledger(self) -> list[Entry]:
        """The generations of people and of data, and those of replayed retrains."""
        promoted = [d for d in self.retrains if d.outcome == "promote"]
        return [*self.ledger, *(self.entries.get(d.id) or _entry(d) for d in promoted)]


def _assume(decision: RetrainDecision) -> RetrainDecision:
    """A promotion as the outcome of a retrain that did not happen."""
    hours = decision.expected_gpu_hours
    return make_decision(
        "outcome",
        decision.time + timedelta(hours=hours),
        ("none", "assumed"),
        decision.id,
        dataset=decision.dataset,
        dataset_version=decision.dataset_version,
        generation=decision.generation + 1,
        outcome_of=decision.id,
        outcome="promote",
        gpu_hours=hours,
    )


def _entry(outcome: RetrainDecision) -> Entry:
    """The generation of an assumed promotion."""
    return Entry(
        generation=outcome.generation,
        action="promote",
        release="",
        dataset=outcome.dataset,
        dataset_version=outcome.dataset_version,
        evaluation="",
        actor="dry run",
        reason=outcome.reason,
        time=outcome.time,
    )


def fired(reruns: Sequence[ReplayedCheck]) -> tuple[int, float]:
    """The number of retrains started, and their total GPU-hours."""
    return sum(r.now.action == "retrain" for r in reruns), sum(r.gpu_hours for r in reruns)
