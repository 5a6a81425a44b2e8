"""Monitor, ingest and a person decide at the same moment: the ledger never breaks the policy."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.core.retraining.decisions import RetrainDecision, make_decision, open_retrain, read_decisions
from tasks.core.retraining.leases import LeaseLost, end_retrain, renew
from tasks.core.store import Store, open_store
from tests.deciders import POLICY, Deciders, Holder, time_of

WEEK = timedelta(days=7)
KILLED = 10  # one in so many rounds the holder of the lease is killed


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "decided")
    return f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}"


@pytest.fixture
def deciders(url: str) -> Iterator[Deciders]:
    made = Deciders()
    yield made
    made.end()


@pytest.fixture
def holder(url: str) -> Iterator[Holder]:
    made = Holder()
    yield made
    made.end()


@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_three_deciders_never_break_the_policy(url: str, deciders: Deciders, holder: Holder, rounds: int) -> None:
    store, model, killed = open_store(url), "raced", list[str]()
    decided = list[RetrainDecision]()
    for number in range(1, rounds + 1):
        decided += deciders.race(url, model, number)
        current = open_retrain(read_decisions(store, model))
        if current is None:
            continue
        if len(killed) < min(number // KILLED + 1, rounds // KILLED):
            holder.hold(url, model, current.id)
            holder.kill()
            killed.append(current.id)
        else:
            end_retrain(store, model, outcome_of(current, number))
    deciders.race(url, model, rounds + 1)  # ends the last one, if that was killed
    made = read_decisions(open_store(url), model)
    assert len({d.id for d in made}) == len({d.writer for d in made}) == len(made), "none is there twice"
    assert {d.id for d in decided if d.action != "none"} <= {d.id for d in made}, "none is lost"
    follows_the_policy(made)
    ends = {d.outcome_of: d for d in made if d.cause == "outcome"}
    assert len(killed) == rounds // KILLED
    for one in killed:
        assert ends[one].reason.startswith("its run has died")
        with pytest.raises(LeaseLost):
            renew(store, model, one)


def outcome_of(of: RetrainDecision, number: int) -> RetrainDecision:
    about = {"outcome_of": of.id, "outcome": "keep", "gpu_hours": 0.2 + 0.01 * (number % 10)}
    return make_decision("outcome", time_of(number), ("none", "measured"), of.id).model_copy(update=about)


def follows_the_policy(made: list[RetrainDecision]) -> None:
    """At most one retrain is in flight, no week is over its budget, nothing starts while paused."""
    paused, started = False, 0
    for number, decision in enumerate(made):
        before = made[:number]
        if decision.cause == "operator":
            paused = decision.action == "pause"
        if decision.action != "retrain":
            continue
        started += 1
        assert open_retrain(before) is None, "one in flight"
        if decision.cause == "manual":  # neither budget nor pause apply to a person
            continue
        assert not paused
        spent = sum(d.gpu_hours for d in before if decision.time - d.time < WEEK)
        assert spent + decision.expected_gpu_hours <= POLICY["weekly_gpu_hours"] + 1e-9
    assert started > 3
    declined = " ".join(d.reason for d in made if d.action == "declined")
    assert all(reason in declined for reason in ("budget", "in flight", "paused"))


def test_a_repeated_step_appends_nothing(url: str, deciders: Deciders) -> None:
    model = "again"
    first = deciders.race(url, model, 1)
    store: Store = open_store(url)
    made = read_decisions(store, model)
    again = deciders.race(url, model, 1)
    assert read_decisions(open_store(url), model) == made
    assert {d.id for d in again} <= {d.id for d in first}
