"""The retrain policy over simulated months: random verdicts, outcomes, uploads, roll-backs, operators' actions."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pytest

from tasks.core.config.presets import PolicySpec
from tasks.core.registry.ledger import Entry
from tasks.core.retraining.decisions import Action, Cause, Outcome, RetrainDecision, make_decision, open_retrain
from tasks.core.retraining.policy import PastCheck, Situation, make_retrain_decision, on_data, on_drift

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MONTHS = 100 * 24  # hours
SPEC = PolicySpec(weekly_gpu_hours=1.6, expected_gpu_hours=0.5, cooldown_hours=12, stale_hours=24)
PATIENT = SPEC.model_copy(update={"hits": 3, "of": 5, "cooldown_hours": 48, "weekly_gpu_hours": 0.9})
HASTY = SPEC.model_copy(update={"hits": 1, "of": 1, "cooldown_hours": 0, "weekly_gpu_hours": 3.0, "stale_hours": 5})


@dataclass
class Chances:
    """How likely each thing is in an hour, or at the end of a retrain."""

    drift: float = 0.3
    keep: float = 0.3
    fail: float = 0.1
    lost: float = 0.05  # a retrain that never reports its outcome
    upload: float = 0.02
    roll_back: float = 0.004
    pause: float = 0.003
    resume: float = 0.02


@dataclass
class World:
    """A simulated installation; `history` and `ledger` are what its store would hold."""

    spec: PolicySpec
    chances: Chances
    seed: int
    now: datetime = START
    version: int = 1
    history: list[RetrainDecision] = field(default_factory=list)
    ledger: list[Entry] = field(default_factory=list)
    ends: dict[datetime, RetrainDecision] = field(default_factory=dict)  # of the retrains that run
    seen: list[tuple[Situation, RetrainDecision]] = field(default_factory=list)
    checks: list[PastCheck] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self._enter("promote")

    def run(self, hours: int) -> "World":
        for _ in range(hours):
            self.now += HOUR
            if running := self.ends.pop(self.now, None):
                self._end(running)
            self._close_dead()
            self._people()
            if self._happens(self.chances.upload):
                self.version += 1
                self._decide("data", on_data(self.random.choice((5, 80)), self._situation(), self.spec))
            verdict = "retrain" if self._happens(self.chances.drift) else self.random.choice(("stable", "warn"))
            self._decide("drift", on_drift(verdict, self._situation(), self.spec), verdict)
        return self

    def retrains(self, cause: str = "drift") -> list[RetrainDecision]:
        return [d for d in self.history if d.action == "retrain" and d.cause == cause]

    def _happens(self, chance: float) -> bool:
        return self.random.random() < chance

    def _situation(self) -> Situation:
        return Situation(
            now=self.now,
            history=tuple(self.history),
            ledger=tuple(self.ledger),
            checks=tuple(self.checks[-60:]),
            dataset_version=f"v{self.version}",
        )

    def _close_dead(self) -> None:
        """What `leases.close_dead` does with a retrain that was never heard of again."""
        lost = open_retrain(self.history)
        if lost and lost not in self.ends.values() and self.now - lost.time >= self.spec.stale_hours * HOUR:
            cost = {"outcome_of": lost.id, "outcome": "failed", "gpu_hours": lost.expected_gpu_hours}
            made = make_decision("outcome", self.now, ("none", "it has died"), lost.id)
            self.history.append(made.model_copy(update=cost))

    def _people(self) -> None:
        words: tuple[tuple[float, Action], ...] = ((self.chances.pause, "pause"), (self.chances.resume, "resume"))
        for chance, word in words:
            if self._happens(chance):
                self.history.append(make_decision("operator", self.now, (word, "ada: by hand"), str(self.now)))
        if self._happens(self.chances.roll_back):
            self._enter("roll_back")

    def _decide(self, cause: Cause, ruling: tuple[Action, str], verdict: str = "") -> None:
        situation = self._situation()
        decision = make_retrain_decision(cause, ruling, situation, self.spec, f"{cause}-{self.now}", verdict=verdict)
        self.history.append(decision)
        if cause == "drift":
            self.checks.append(PastCheck(time=self.now, verdict=verdict, generation=decision.generation))
        self.seen.append((situation, decision))
        if decision.action == "retrain" and not self._happens(self.chances.lost):
            end = self.now + self.random.randint(1, 3) * HOUR
            self.ends[end] = decision

    def _end(self, retrain: RetrainDecision) -> None:
        draw = self.random.random()
        outcome: Outcome = "failed" if draw < self.chances.fail else "promote"
        if self.chances.fail <= draw < self.chances.fail + self.chances.keep:
            outcome = "keep"
        if outcome == "promote":
            self._enter("promote")
        self.history.append(
            make_decision(
                "outcome",
                self.now,
                ("none", "simulated outcome"),
                retrain.id,
                dataset_version=retrain.dataset_version,
                outcome_of=retrain.id,
                outcome=outcome,
                gpu_hours=self.random.uniform(0.1, 0.5),
            )
        )

    def _enter(self, action: str) -> None:
        entry = {
            "generation": len(self.ledger) + 1,
            "action": action,
            "release": "r",
            "dataset_version": f"v{self.version}",
            "evaluation": "e",
            "actor": "gate",
            "reason": "better",
            "time": self.now,
        }
        self.ledger.append(Entry.model_validate(entry))


@pytest.fixture(scope="module", params=[(SPEC, 1), (SPEC, 2), (PATIENT, 3), (HASTY, 4), (HASTY, 5)])
def months(request: pytest.FixtureRequest) -> World:
    spec, seed = request.param
    return World(spec, Chances(), seed).run(MONTHS)


def started(world: World) -> list[tuple[Situation, RetrainDecision]]:
    """Every retrain with what was known when it was decided."""
    return [(s, d) for s, d in world.seen if d.action == "retrain"]


def test_the_simulation_covers_every_reason(months: World) -> None:
    assert len(months.retrains("drift")) >= 5
    assert len(months.retrains("data")) >= 3
    assert {e.action for e in months.ledger} == {"promote", "roll_back"}
    reasons = " ".join(d.reason for d in months.history if d.action == "declined")
    assert all(word in reasons for word in ("paused", "hold", "in flight", "budget", "the gate kept the champion"))


def test_at_most_one_retrain_is_in_flight(months: World) -> None:
    ends = {d.outcome_of: d.time for d in months.history if d.outcome}
    runs = [(d.time, ends.get(d.id, months.now)) for _, d in started(months)]
    assert all(end <= start for (_, end), (start, _) in pairwise(runs))


def test_a_week_never_takes_more_than_its_gpu_hours(months: World) -> None:
    limit = months.spec.weekly_gpu_hours
    for situation, decision in started(months):
        week = [d for d in situation.history if situation.now - d.time < timedelta(days=7)]
        assert sum(d.gpu_hours for d in week) + decision.expected_gpu_hours <= limit + 1e-9
    worst = max(d.gpu_hours for d in months.history)
    for now in (d.time for d in months.history if d.outcome):
        real = sum(d.gpu_hours for d in months.history if timedelta() <= now - d.time < timedelta(days=7))
        assert real <= limit + worst, "an estimate can be wrong for the last one only"


def test_drift_never_starts_inside_the_cool_down(months: World) -> None:
    cool = timedelta(hours=months.spec.cooldown_hours)
    for situation, decision in started(months):
        if decision.cause == "drift":
            ends = [e.time for e in situation.ledger] + [d.time for d in situation.history if d.outcome == "failed"]
            assert all(decision.time - end >= cool for end in ends)


def test_what_the_gate_turned_down_is_not_tried_again_for_drift(months: World) -> None:
    for situation, decision in started(months):
        kept = {d.dataset_version for d in situation.history if d.outcome == "keep"}
        assert decision.cause == "data" or decision.dataset_version not in kept


def test_nothing_starts_while_paused(months: World) -> None:
    for situation, _ in started(months):
        words = [d.action for d in situation.history if d.cause == "operator"]
        assert words[-1:] != ["pause"]


def test_a_roll_back_holds_drift_until_it_is_released(months: World) -> None:
    for situation, decision in started(months):
        last = situation.ledger[-1]
        if decision.cause == "drift" and last.action == "roll_back":
            word = [d for d in situation.history if d.cause == "operator" and d.time > last.time]
            assert word or decision.dataset_version != last.dataset_version


def test_drift_starts_only_after_enough_checks(months: World) -> None:
    for situation, decision in started(months):
        if decision.cause == "drift":
            checks = [*(d for d in situation.history if d.cause == "drift"), decision][-months.spec.of :]
            assert sum(d.verdict == "retrain" for d in checks) >= months.spec.hits
            assert decision.verdict == "retrain"


def test_every_decision_has_its_reason_and_its_cost(months: World) -> None:
    assert all(d.reason for d in months.history)
    assert all(d.expected_gpu_hours > 0 for _, d in months.seen if d.action != "none")
    assert len({d.id for d in months.history}) == len(months.history)


def test_advise_never_retrains() -> None:
    world = World(SPEC.model_copy(update={"mode": "advise"}), Chances(), 1).run(MONTHS)
    assert started(world) == []
    assert any("mode advise" in d.reason for d in world.history)


CALM = Chances(drift=0, upload=0, roll_back=0, pause=0, resume=0, keep=0, fail=0, lost=0)


def test_a_year_without_drift_starts_no_retrain() -> None:
    world = World(SPEC, CALM, 1).run(365 * 24)
    assert {d.action for d in world.history} == {"none"}


def test_a_shift_that_stays_fires_once_and_then_waits() -> None:
    shifted = Chances(**{**vars(CALM), "drift": 1.0, "keep": 1.0})
    world = World(SPEC, shifted, 1).run(50 * 24)
    assert len(world.retrains()) == 1, "the gate kept the champion: it waits for data"
    world.version += 1
    world.run(3)
    assert len(world.retrains()) == 2, "and continues with data"


def test_a_shift_that_persists_after_retraining_stays_within_the_budget() -> None:
    world = World(SPEC, Chances(**{**vars(CALM), "drift": 1.0}), 1).run(MONTHS)
    weeks = MONTHS / 24 / 7
    spent = sum(d.gpu_hours for d in world.history)
    assert 0.5 * SPEC.weekly_gpu_hours * weeks < spent <= SPEC.weekly_gpu_hours * (weeks + 1)


@pytest.mark.parametrize("seed", range(5))
def test_from_any_history_a_shift_retrains_within_a_week_once_nothing_blocks_it(seed: int) -> None:
    world = World(SPEC, Chances(), seed).run(20 * 24)
    world.chances = Chances(**{**vars(CALM), "drift": 1.0})
    world.version += 1  # new data ends a hold
    world.history.append(make_decision("operator", world.now, ("resume", "ada: go on"), "last"))
    before = len(world.retrains())
    world.run(7 * 24 + 25)
    assert len(world.retrains()) > before
