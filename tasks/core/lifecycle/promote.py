"""From an evaluation to the ledger: eligibility, gate, release, entry."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import GateSpec
from tasks.core.config.requests import PromoteRequest
from tasks.core.data.dataset import load_manifest
from tasks.core.errors import (
    DatasetUnusable,
    PlanMismatch,
    PromotionLost,
    ReleaseAbandoned,
    ReleaseWithdrawn,
    SettingError,
)
from tasks.core.gate.checks import refused
from tasks.core.gate.decide import GateDecision, settle
from tasks.core.installation import Installation
from tasks.core.models.identity import base_fingerprint
from tasks.core.publishing.card import SAMPLES, write_card
from tasks.core.publishing.card_facts import facts_of
from tasks.core.registry import ledger
from tasks.core.registry.ledger import Entry
from tasks.core.registry.releases import ReleaseManifest, write_release
from tasks.core.registry.results import (
    EvaluationResult,
    PromotionResult,
    TrainResult,
    find_result,
    get_result,
    promotion_key,
    save_result,
)
from tasks.core.registry.withdrawals import refuse_training
from tasks.core.store import Store, download_folder
from tasks.core.store.conditional_writes import require_conditions
from tasks.core.store.documents import digest


def require_eligible(store: Store, model: str, entries: Sequence[Entry], training: str, asked: bool) -> None:
    """Raise unless the LoRA of a training may be promoted; `asked`: a person requested it.

    The LoRA is identified by its training: with another card it is another release.

    Raises:
        ReleaseWithdrawn: it was withdrawn.
        ReleaseAbandoned: it was rolled back, and no person requested it.
    """
    refuse_training(store, model, training)
    if not asked and (entry := _abandoned_by(entries, training)):
        raise ReleaseAbandoned(entry.abandons, entry.generation)


def _abandoned_by(entries: Sequence[Entry], training: str) -> Entry | None:
    """The roll-back that abandoned this LoRA, unless it was restored since."""
    for entry in reversed(entries):
        if training and ledger.training_of(entries, entry.abandons) == training:
            return entry
        if entry.training == training:
            return None
    return None


def promote(installation: Installation, model: ModelConfig, request: PromoteRequest) -> PromotionResult:
    """Gate an evaluation and, when it passes, write the release, then its ledger entry; idempotent.

    A LoRA that was withdrawn or rolled back is not promoted automatically, with that as the reason.

    Raises:
        PromotionLost: the champion changed since the evaluation, or another run took the generation.
        PlanMismatch: the parent has planned another gate.
        ReleaseWithdrawn: a person requested a withdrawn LoRA.
    """
    if request.actor and not request.reason:
        raise SettingError("spec.reason", "overruling the gate needs a reason")
    require_conditions(installation.store)
    evaluation = get_result(installation.store, model.name, EvaluationResult, request.evaluation)
    spec = request.gate or model.preset.gate
    key = promotion_key(request, spec, evaluation.key)
    if request.key not in {"", key}:
        raise PlanMismatch("promote-champion", request.key, key, f"evaluation {evaluation.key}, gate {digest(spec)}")
    if done := find_result(installation.store, model.name, PromotionResult, key):
        return done
    decision, entry = gate(evaluation, spec), None
    if decision.verdict == "promote" or request.actor:
        try:
            entry = _record_promotion(installation, model, evaluation, decision, request)
        except (ReleaseWithdrawn, ReleaseAbandoned) as refusal:
            if request.actor:
                raise
            decision = _refused(decision, str(refusal))
    result = PromotionResult(
        key=key,
        model=model.name,
        finished=clock.now(),
        evaluation=evaluation.key,
        decision=decision,
        generation=entry.generation if entry else 0,
        release=entry.release if entry else "",
    )
    save_result(installation.store, result)
    return result


def gate(evaluation: EvaluationResult, spec: GateSpec) -> GateDecision:
    """The gate's decision on an evaluation."""
    return settle(evaluation.challenger, evaluation.champion, spec, evaluation.looks, evidence=evaluation.evidence)


def _refused(decision: GateDecision, reason: str) -> GateDecision:
    """The decision to keep the champion whatever the figures are."""
    checks = (*decision.checks, refused(reason))
    return decision.model_copy(update={"verdict": "keep", "reason": reason, "checks": checks})


def _record_promotion(
    installation: Installation,
    model: ModelConfig,
    evaluation: EvaluationResult,
    decision: GateDecision,
    request: PromoteRequest,
) -> ledger.Entry:
    """Write the release and its ledger entry, unless an interrupted run has."""
    entries = ledger.history(installation.store, model.name)
    if done := _promoted_by(entries, evaluation.key):
        return done
    require_eligible(installation.store, model.name, entries, evaluation.training, asked=bool(request.actor))
    generation = (entries[-1].generation if entries else 0) + 1
    if ledger.served(entries) != ledger.served(entries[: evaluation.champion_generation]):
        raise PromotionLost(evaluation.champion_generation + 1)
    training = get_result(installation.store, model.name, TrainResult, evaluation.training)
    entry = ledger.Entry(
        generation=generation,
        action="promote",
        release=_release(installation, model, training, evaluation, decision, request),
        training=training.key,
        dataset=training.dataset,
        dataset_version=training.dataset_version,
        evaluation=evaluation.key,
        traffic_from=evaluation.traffic_from,
        actor=request.actor or "gate",
        reason=request.reason or decision.reason,
        time=clock.now(),
    )
    return ledger.append(installation.store, model.name, entry)


def _promoted_by(entries: list[ledger.Entry], evaluation: str) -> ledger.Entry | None:
    """The generation that this evaluation promoted in an interrupted run, unless it was rolled back since."""
    mine = [e for e in entries if e.action == "promote" and e.evaluation == evaluation]
    return mine[-1] if mine and not ledger.is_abandoned(entries, mine[-1].release) else None


def _release(
    installation: Installation,
    model: ModelConfig,
    training: TrainResult,
    evaluation: EvaluationResult,
    decision: GateDecision,
    request: PromoteRequest,
) -> str:
    """Write the trained LoRA as a release, with card and samples; returns its name."""
    about = ReleaseManifest(
        base_model=training.base or base_fingerprint(model.base),
        dataset=training.dataset,
        dataset_version=training.dataset_version,
        training=training.key,
        trigger=model.trigger,
        files={},
    )
    with tempfile.TemporaryDirectory() as folder:
        download_folder(installation.store, training.adapter, Path(folder))
        if evaluation.samples:
            installation.store.get_file(evaluation.samples, Path(folder) / SAMPLES)
        facts = facts_of(
            model,
            about,
            pictures=_pictures(installation.store, training),
            training=training,
            evaluation=evaluation,
            decision=decision,
            spec=request.gate or model.preset.gate,
            overruled=request.reason if request.actor else "",
        )
        write_card(Path(folder), facts)
        return write_release(installation.store, model.name, Path(folder), about)


def _pictures(store: Store, training: TrainResult) -> int:
    """Number of pictures of the dataset version; 0 if its manifest was deleted."""
    try:
        return len(load_manifest(store, training.dataset, training.dataset_version).items)
    except DatasetUnusable:
        return 0
