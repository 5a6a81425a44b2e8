"""The lease of the retrain in flight: its run renews it, and a run that has died loses it.

A lease is taken away first (by compare-and-swap, so that a renewal at the same moment fails), then the outcome is
appended, then the next retrain may start: no two retrains of a model are ever in flight.
"""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from tasks.core import clock
from tasks.core.config.presets import PolicySpec
from tasks.core.errors import DyeworksError, ObjectMissing, StoreConflict
from tasks.core.retraining.decisions import RetrainDecision, decide, make_decision, open_retrain, read_decisions
from tasks.core.store import Store
from tasks.core.store.documents import Document, parse, render

VALID = timedelta(minutes=15)  # longer than a crashed run takes until it is started again
RENEWAL = timedelta(minutes=1)


class LeaseLost(DyeworksError):
    """A retrain has ended, or was taken for dead, while one of its runs was still working."""

    def __init__(self, model: str, decision: str) -> None:
        super().__init__(
            f"retrain {decision} of model {model!r} has no lease any more: it has an outcome, or nothing was heard of "
            "it for too long; what it has trained is found again by the next retrain of the same data"
        )
        self.model, self.decision = model, decision


class Lease(Document):
    """The right of a retrain's runs to work."""

    decision: str
    until: datetime
    revoked: bool = False


def _key(model: str) -> str:
    return f"models/{model}/retrain-lease.json"


def read_lease(store: Store, model: str) -> tuple[Lease | None, str | None]:
    """The lease and its version; (None, None) before the first retrain."""
    try:
        data, version = store.read_versioned(_key(model))
    except ObjectMissing:
        return None, None
    return parse(Lease, data, _key(model)), version


def renew(store: Store, model: str, decision: str) -> None:
    """Take the lease for a retrain, or prolong it; any run of the retrain may.

    Raises:
        LeaseLost: the retrain has an outcome, is not in the ledger, or was taken for dead.
    """
    while True:
        lease, version = read_lease(store, model)
        mine = lease is not None and lease.decision == decision
        if lease is not None and mine and lease.revoked:
            raise LeaseLost(model, decision)
        current = open_retrain(read_decisions(store, model))
        if current is None or current.id != decision:
            raise LeaseLost(model, decision)
        with suppress(StoreConflict):  # renewed by another run, or revoked: read it again
            store.swap(_key(model), render(Lease(decision=decision, until=_real_time() + VALID)), version)
            return


def close_dead(store: Store, model: str, spec: PolicySpec) -> RetrainDecision | None:
    """Append the outcome of a retrain whose lease has ended, or that never started; None while it may be alive."""
    current = open_retrain(read_decisions(store, model))
    if current is None:
        return None
    lease, version = read_lease(store, model)
    reason = _dead(current, lease, spec)
    if not reason:
        return None
    if lease is None or not lease.revoked or lease.decision != current.id:
        try:
            revoked = Lease(decision=current.id, until=_real_time(), revoked=True)
            store.swap(_key(model), render(revoked), version)
        except StoreConflict:  # its run has renewed it
            return None
    return end_retrain(store, model, make_lost(current, reason))


def _dead(current: RetrainDecision, lease: Lease | None, spec: PolicySpec) -> str:
    """Why the retrain counts as lost; empty while it may be alive."""
    if lease is None or lease.decision != current.id:
        waited = clock.now() - current.time > timedelta(hours=spec.stale_hours)
        return f"it has not started in {spec.stale_hours:g} hours" if waited else ""
    if lease.revoked or lease.until < _real_time():
        return f"its run has died: nothing was heard of it after {lease.until - VALID:%Y-%m-%d %H:%M}"
    return ""


def _real_time() -> datetime:
    """A process lives in real time, whatever the time of the data is."""
    return datetime.now(UTC)


def make_lost(of: RetrainDecision, reason: str) -> RetrainDecision:
    """The outcome of a retrain that died; its expected cost is counted, as the actual one is unknown."""
    return make_decision(
        "outcome",
        clock.now(),
        ("none", reason),
        of.id,
        dataset=of.dataset,
        dataset_version=of.dataset_version,
        outcome_of=of.id,
        outcome="failed",
        gpu_hours=of.expected_gpu_hours,
    )


def end_retrain(store: Store, model: str, outcome: RetrainDecision) -> RetrainDecision | None:
    """Append the outcome of a retrain; that of an earlier call, None where the ledger has no such retrain."""

    def rule(made: list[RetrainDecision]) -> RetrainDecision | None:
        return outcome if any(d.id == outcome.outcome_of for d in made) else None

    return decide(store, model, outcome.subject, rule)
