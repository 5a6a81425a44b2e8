"""The lease of a retrain: renewed by its runs, lost by a run that has died."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.core import clock
from tasks.core.config.presets import PolicySpec
from tasks.core.retraining import leases
from tasks.core.retraining.decisions import RetrainDecision, make_decision, read_decisions, record_decision
from tasks.core.retraining.leases import LeaseLost, close_dead, end_retrain, make_lost, read_lease, renew
from tasks.core.store import FolderStore

NAME, SPEC = "adire", PolicySpec(stale_hours=24)


def started(store: FolderStore, about: str = "v1", ago: timedelta = timedelta()) -> RetrainDecision:
    made = make_decision("data", clock.now() - ago, ("retrain", "new pictures"), about, expected_gpu_hours=0.5)
    return record_decision(store, NAME, made)


def expire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every lease that is held have ended."""
    later = datetime.now(UTC) + leases.VALID + timedelta(seconds=1)
    monkeypatch.setattr(leases, "_real_time", lambda: later)


def outcome(of: RetrainDecision) -> RetrainDecision:
    about = {"outcome_of": of.id, "outcome": "keep"}
    return make_decision("outcome", clock.now(), ("none", "not better"), of.id).model_copy(update=about)


def test_a_lease_is_taken_and_prolonged(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    retrain = started(folder)
    renew(folder, NAME, retrain.id)
    first, _ = read_lease(folder, NAME)
    renew(folder, NAME, retrain.id)  # by any of its runs
    second, _ = read_lease(folder, NAME)
    assert first
    assert second
    assert (first.decision, second.until > first.until) == (retrain.id, True)
    assert close_dead(folder, NAME, SPEC) is None, "it is alive"
    expire(monkeypatch)
    renew(folder, NAME, retrain.id)
    assert close_dead(folder, NAME, SPEC) is None, "an ended lease that nobody took away can be prolonged"


def test_a_dead_retrain_loses_its_lease_for_good(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    retrain = started(folder)
    renew(folder, NAME, retrain.id)
    expire(monkeypatch)
    lost = close_dead(folder, NAME, SPEC)
    assert lost
    assert (lost.outcome_of, lost.outcome, lost.gpu_hours) == (retrain.id, "failed", 0.5)
    assert "its run has died" in lost.reason
    assert close_dead(folder, NAME, SPEC) is None
    with pytest.raises(LeaseLost, match=f"retrain {retrain.id} of model 'adire'"):
        renew(folder, NAME, retrain.id)
    following = started(folder, "v2")
    renew(folder, NAME, following.id)
    with pytest.raises(LeaseLost):
        renew(folder, NAME, retrain.id)
    lease, _ = read_lease(folder, NAME)
    assert lease
    assert lease.decision == following.id


def test_a_renewal_at_the_same_moment_keeps_the_retrain_alive(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrain = started(folder)
    renew(folder, NAME, retrain.id)
    expire(monkeypatch)
    read = leases.read_lease

    def meanwhile(store: FolderStore, model: str) -> tuple[leases.Lease | None, str | None]:
        found = read(store, model)
        monkeypatch.setattr(leases, "read_lease", read)
        renew(store, model, retrain.id)
        return found

    monkeypatch.setattr(leases, "read_lease", meanwhile)
    assert close_dead(folder, NAME, SPEC) is None
    assert [d.cause for d in read_decisions(folder, NAME)] == ["data"]


def test_one_killed_between_taking_the_lease_and_the_outcome_is_finished(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrain = started(folder)
    renew(folder, NAME, retrain.id)
    expire(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(leases, "end_retrain", lambda *_: None)
        close_dead(folder, NAME, SPEC)
    with pytest.raises(LeaseLost):
        renew(folder, NAME, retrain.id)
    lost = close_dead(folder, NAME, SPEC)
    assert lost
    assert lost.outcome_of == retrain.id


@pytest.mark.parametrize(("hours", "lost"), [(23, False), (25, True)])
def test_a_retrain_that_never_starts_is_lost_after_a_day(folder: FolderStore, hours: float, lost: bool) -> None:
    retrain = started(folder, ago=timedelta(hours=hours))
    found = close_dead(folder, NAME, SPEC)
    assert (found is not None) is lost
    if found:
        assert (found.outcome_of, found.reason) == (retrain.id, "it has not started in 24 hours")
        with pytest.raises(LeaseLost):
            renew(folder, NAME, retrain.id)


def test_a_training_of_days_is_alive_as_long_as_its_run_is(folder: FolderStore) -> None:
    retrain = started(folder, ago=timedelta(days=3))
    renew(folder, NAME, retrain.id)
    assert close_dead(folder, NAME, SPEC) is None


def test_an_outcome_is_appended_once_and_only_of_a_retrain_of_the_ledger(folder: FolderStore) -> None:
    retrain = started(folder)
    first = end_retrain(folder, NAME, outcome(retrain))
    assert end_retrain(folder, NAME, make_lost(retrain, "it has died")) == first
    stranger = retrain.model_copy(update={"id": "data-retrain-unknown"})
    assert end_retrain(folder, NAME, outcome(stranger)) is None
    assert [d.cause for d in read_decisions(folder, NAME)] == ["data", "outcome"]
    with pytest.raises(LeaseLost):
        renew(folder, NAME, stranger.id)


def test_leases_of_two_models_are_independent(folder: FolderStore) -> None:
    retrain = started(folder)
    renew(folder, NAME, retrain.id)
    assert read_lease(folder, "batik") == (None, None)
    with pytest.raises(LeaseLost, match="model 'batik'"):
        renew(folder, "batik", retrain.id)
