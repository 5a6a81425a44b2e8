"""What may start a retrain: new data, drift, a person. Each is decided by the policy and appended to the ledger."""

from collections.abc import Sequence
from typing import cast

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import PolicySpec
from tasks.core.data.dataset import Manifest, pictures_since
from tasks.core.data.pins import pinned_version, training_version
from tasks.core.errors import DyeworksError
from tasks.core.monitoring.records import DriftRecord, recent_records
from tasks.core.registry import ledger
from tasks.core.retraining.decisions import RetrainDecision, decide, open_retrain, read_decisions, subject_of
from tasks.core.retraining.leases import close_dead
from tasks.core.retraining.policy import PastCheck, Situation, make_retrain_decision, on_data, on_drift
from tasks.core.store import Store

REMEMBERED = 60  # drift checks; older ones are ignored


class RetrainInFlight(DyeworksError):
    """A person has started a retrain while another is in flight."""

    def __init__(self, model: str, decision: str) -> None:
        super().__init__(
            f"retrain {decision} of model {model!r} is in flight; wait for its end, or cancel its run of retrain-model"
        )
        self.model, self.decision = model, decision


def decide_on_data(store: Store, model: ModelConfig, manifest: Manifest, again: bool = False) -> RetrainDecision | None:
    """Decide on a new dataset version; None if it was decided on before.

    With `again`, a declined version is decided on again, and a decision made only if it now starts a retrain.
    """
    spec, about = model.preset.policy, f"{manifest.dataset} {manifest.version}{' again' if again else ''}"
    close_dead(store, model.name, spec)
    before = [d for d in read_decisions(store, model.name) if d.cause == "data" and _is_about(d, manifest)]
    if before and (not again or before[-1].action == "retrain"):
        return None

    def rule(made: list[RetrainDecision]) -> RetrainDecision | None:
        situation = _situation(store, model, made, manifest.dataset, manifest.version)
        new = pictures_since(store, manifest, _trained_version(situation.ledger, manifest.dataset))
        ruling = on_data(new, situation, spec)
        if again and ruling[0] != "retrain":
            return None
        return make_retrain_decision("data", ruling, situation, spec, about, new_pictures=new)

    return decide(store, model.name, subject_of("data", about), rule)


def _is_about(decision: RetrainDecision, manifest: Manifest) -> bool:
    return (decision.dataset, decision.dataset_version) == (manifest.dataset, manifest.version)


def _trained_version(entries: Sequence[ledger.Entry], dataset: str) -> str:
    """The version of the newest generation that was trained on the dataset; empty: none was."""
    return next((entry.dataset_version for entry in reversed(entries) if entry.dataset == dataset), "")


def decide_on_drift(store: Store, model: ModelConfig, record: DriftRecord, spec: PolicySpec) -> RetrainDecision:
    """Decide after a drift check. What gives no cause for a retrain is not appended: its record is stored already."""
    close_dead(store, model.name, spec)
    checks = tuple(
        PastCheck(time=past.time, verdict=past.verdict, generation=past.generation)
        for past in recent_records(store, model.name)[-REMEMBERED:]
        if past.time < record.time
    )

    def rule(made: list[RetrainDecision]) -> RetrainDecision:
        version = training_version(store, model.name, model.dataset)
        found = _situation(store, model, made, model.dataset, version)
        situation = found.model_copy(update={"now": record.time, "checks": checks})
        action, reason = on_drift(record.verdict, situation, spec)
        return make_retrain_decision(
            "drift",
            (action, f"{reason}; {record.says}"),
            situation,
            spec,
            record.key,
            generation=record.generation,
            psi=record.drift.psi if record.drift else None,
            verdict=record.verdict,
            report=record.key,
        )

    first = rule(read_decisions(store, model.name))
    if first.action == "none":  # whatever else is decided meanwhile
        return first
    return cast(RetrainDecision, decide(store, model.name, first.subject, rule))


def decide_by_hand(store: Store, model: ModelConfig, run: str) -> RetrainDecision:
    """The decision of a person who started a run of retrain-model: neither budget nor pause applies.

    Raises:
        RetrainInFlight: another retrain of the model is.
    """
    spec = model.preset.policy
    close_dead(store, model.name, spec)

    def rule(made: list[RetrainDecision]) -> RetrainDecision:
        if running := open_retrain(made):
            raise RetrainInFlight(model.name, running.id)
        version = training_version(store, model.name, model.dataset)
        situation = _situation(store, model, made, model.dataset, version)
        return make_retrain_decision("manual", ("retrain", "a person started it"), situation, spec, run)

    return cast(RetrainDecision, decide(store, model.name, subject_of("manual", run), rule))


def _situation(
    store: Store, model: ModelConfig, made: Sequence[RetrainDecision], dataset: str, version: str
) -> Situation:
    entries = tuple(ledger.history(store, model.name))
    return Situation(
        now=clock.now(),
        history=tuple(made),
        ledger=entries,
        dataset=dataset,
        dataset_version=version,
        pinned=pinned_version(store, model.name, dataset),
    )
