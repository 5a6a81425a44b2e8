"""The parent of a retrain: the requests of its stages."""

from prefect import get_run_logger, task

from tasks.context import open_context
from tasks.core import clock
from tasks.core.config.requests import EvaluateRequest, PromoteRequest, PublishRequest, RetrainRequest, TrainRequest
from tasks.core.data.dataset import load_manifest
from tasks.core.errors import ReleaseWithdrawn, StageFailed
from tasks.core.evaluation.plan import is_outdated, plan_evaluation, won_with
from tasks.core.gate.checks import refused
from tasks.core.gate.decide import GateDecision
from tasks.core.models.identity import base_fingerprint, is_hub_name
from tasks.core.monitoring.records import DriftRecord
from tasks.core.registry.results import PromotionResult, get_result, promotion_key, publication_key
from tasks.core.retraining.decisions import read_decisions
from tasks.core.store.documents import read_document
from tasks.core.training.plan import plan_training
from tasks.stages import run_stage
from tasks.timeouts import SHORT

ROUNDS = 3  # champions that a challenger is compared with at most


@task(timeout_seconds=SHORT)
def is_done(request: RetrainRequest) -> bool:
    """Whether the decision behind this run has its outcome: its event was sent twice."""
    store, settings = open_context()
    ended = {d.outcome_of for d in read_decisions(store, settings.model)}
    return bool(request.decision) and request.decision in ended


@task(timeout_seconds=SHORT)
def request_training(request: RetrainRequest) -> TrainRequest:
    """The newest dataset version, weighted by the demand that the drift report found."""
    training = training_of(request)
    get_run_logger().info("retrain (%s): dataset version %s", request.cause, training.version)
    return training


def training_of(request: RetrainRequest) -> TrainRequest:
    """What a retrain trains now."""
    store, settings = open_context()
    manifest = load_manifest(store, request.dataset or settings.dataset)
    demand = read_document(store, DriftRecord, request.report).fresh if request.report else ()
    base = base_fingerprint(settings)  # a base of the Hub is the same one for planner and worker
    pinned = base if is_hub_name(base) else ""
    return TrainRequest(dataset=manifest.dataset, version=manifest.version, demand=demand, base=pinned)


def train_stage(training: TrainRequest) -> str:
    """Run the training; its key."""
    store, settings = open_context()
    key = plan_training(store, settings, training).key
    run_stage("train-lora", training, key)
    return key


def compete(request: RetrainRequest, training: TrainRequest, key: str) -> PromotionResult:
    """Run evaluation and gate; against the new champion where another was crowned, or rolled back to, meanwhile.

    A training that was withdrawn is kept out without an evaluation.
    """
    store, settings = open_context()
    for _ in range(ROUNDS):
        try:
            evaluated = evaluate_stage(request, training, key)
        except ReleaseWithdrawn as withdrawn:
            return _kept_out(str(withdrawn))
        try:
            return promote_stage(evaluated)
        except StageFailed as failure:
            if not is_outdated(store, settings, evaluated):
                raise
            get_run_logger().warning("%s; the champion has changed: evaluated again", failure)
    raise StageFailed("promote-champion", "", f"the champion has changed {ROUNDS} times")


def _kept_out(reason: str) -> PromotionResult:
    decision = GateDecision(verdict="keep", reason=reason, checks=(refused(reason),))
    return PromotionResult(key="", finished=clock.now(), evaluation="", decision=decision, generation=0, release="")


def evaluate_stage(request: RetrainRequest, training: TrainRequest, key: str) -> str:
    """Run the evaluation, on the drifted prompts too; its key. What won already is not evaluated again."""
    store, settings = open_context()
    if won := won_with(store, settings, key):
        return won
    evaluation = EvaluateRequest(training=key, drifted=training.demand, report=request.report)
    plan = plan_evaluation(store, settings, evaluation)
    run_stage("evaluate-challenger", evaluation, plan.key)
    return plan.key


def promote_stage(evaluation: str) -> PromotionResult:
    """Run gate and promotion."""
    store, _ = open_context()
    request = PromoteRequest(evaluation=evaluation)
    key = promotion_key(request, evaluation)
    run_stage("promote-champion", request, key)
    return get_result(store, PromotionResult, key)


def publish_stage(promotion: PromotionResult) -> None:
    """Run the publication of what was promoted; nothing when the champion was kept."""
    _, settings = open_context()
    if promotion.generation:
        request = PublishRequest(generation=promotion.generation)
        run_stage("publish-champion", request, publication_key(settings.model, promotion.generation))
