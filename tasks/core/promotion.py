"""From an evaluation to the ledger: gate, release, entry, and the projections of the ledger."""

import tempfile
from pathlib import Path

from tasks.core import clock, tracking
from tasks.core.data.dataset import load_manifest
from tasks.core.errors import DyeworksError, PromotionLost, SettingError
from tasks.core.gate import Decision, settle
from tasks.core.models import base_fingerprint
from tasks.core.registry import ledger
from tasks.core.registry.releases import ReleaseManifest, write_release
from tasks.core.requests import PromoteRequest, RollBackRequest
from tasks.core.results import (
    EvaluationResult,
    PromotionResult,
    TrainResult,
    find_result,
    get_result,
    promotion_key,
    save_result,
)
from tasks.core.settings import Settings
from tasks.core.specs import GateSpec, load_preset
from tasks.core.store import Store, download_folder


class NothingToRollBack(DyeworksError):
    """The ledger has no older generation like the one asked for."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"the ledger has no generation {generation or 'before the champion'} to go back to")
        self.generation = generation


def promote(store: Store, settings: Settings, request: PromoteRequest) -> PromotionResult:
    """Gate an evaluation and, when it passes, write the release, then its ledger entry; repeatable.

    Raises:
        PromotionLost: the champion changed since the evaluation, or another run took the generation.
    """
    if request.actor and not request.reason:
        raise SettingError("spec.reason", "overruling the gate needs a reason")
    evaluation = get_result(store, EvaluationResult, request.evaluation)
    spec = request.gate or load_preset().gate
    key = promotion_key(request, evaluation.key)
    done = find_result(store, PromotionResult, key)
    if done and not (done.decision.verdict == "promote" and not done.generation):
        return done
    decision = gate(evaluation, spec)
    release, generation = "", 0
    if decision.verdict == "promote" or request.actor:
        release, generation = _enter(store, settings, evaluation, decision, request)
    result = PromotionResult(
        key=key,
        finished=clock.now(),
        evaluation=evaluation.key,
        decision=decision,
        generation=generation,
        release=release,
    )
    save_result(store, result)
    return result


def gate(evaluation: EvaluationResult, spec: GateSpec) -> Decision:
    """The gate's decision on an evaluation."""
    return settle(evaluation.challenger, evaluation.champion, spec, evaluation.looks, evidence=evaluation.evidence)


def _enter(
    store: Store, settings: Settings, evaluation: EvaluationResult, decision: Decision, request: PromoteRequest
) -> tuple[str, int]:
    training = get_result(store, TrainResult, evaluation.training)
    about = ReleaseManifest(
        base_model=base_fingerprint(settings),
        dataset=training.dataset,
        dataset_version=training.dataset_version,
        training=training.key,
        trigger=settings.trigger,
        files={},
    )
    with tempfile.TemporaryDirectory() as folder:
        download_folder(store, training.adapter, Path(folder))
        release = write_release(store, settings.model, Path(folder), about)
    entries = ledger.history(store, settings.model)
    current = entries[-1] if entries else None
    if current and current.evaluation == evaluation.key:  # this promotion, cut off after its entry
        return current.release, current.generation
    if (current.generation if current else 0) != evaluation.champion_generation:
        raise PromotionLost(evaluation.champion_generation + 1)
    entry = ledger.Entry(
        generation=evaluation.champion_generation + 1,
        action="promote",
        release=release,
        dataset_version=training.dataset_version,
        evaluation=evaluation.key,
        traffic_from=evaluation.traffic_from,
        actor=request.actor or "gate",
        reason=request.reason or decision.reason,
        time=clock.now(),
    )
    ledger.append(store, settings.model, entry)
    return release, entry.generation


def project(store: Store, settings: Settings) -> None:
    """Bring the MLflow aliases in line with the ledger."""
    entry = ledger.champion(store, settings.model)
    if entry is None:
        return
    evaluation = get_result(store, EvaluationResult, entry.evaluation)
    training = get_result(store, TrainResult, evaluation.training)
    tracking.register(settings.model, training.mlflow_run, entry)


def roll_back(store: Store, settings: Settings, request: RollBackRequest) -> ledger.Entry:
    """Append an entry that names an older generation; raises NothingToRollBack."""
    entries = ledger.history(store, settings.model)
    last = entries[-1].generation if entries else 0
    target = request.generation or (ledger.profile_generation(entries) - 1 if entries else 0)
    chosen = next((e for e in entries if e.generation == target and target < last), None)
    if chosen is None:
        raise NothingToRollBack(request.generation)
    entry = chosen.model_copy(
        update={
            "generation": last + 1,
            "action": "roll_back",
            "restores": chosen.restores or chosen.generation,
            "dataset_version": load_manifest(store, settings.dataset).version,
            "actor": request.actor,
            "reason": request.reason,
            "time": clock.now(),
        }
    )
    ledger.append(store, settings.model, entry)
    return entry
