"""The parent run of a retrain: builds the request of each stage and runs it."""

from prefect import get_run_logger, task

from tasks.context import open_model
from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import EvaluateRequest, PromoteRequest, PublishRequest, RetrainRequest, TrainRequest
from tasks.core.data.dataset import load_manifest
from tasks.core.data.pins import pinned_version
from tasks.core.errors import ReleaseWithdrawn, StageFailed
from tasks.core.evaluation.plan import plan_evaluation, winning_evaluation
from tasks.core.gate.checks import refused
from tasks.core.gate.decide import GateDecision
from tasks.core.installation import open_installation
from tasks.core.models.identity import base_fingerprint, is_hub_name
from tasks.core.monitoring.records import DriftRecord
from tasks.core.registry.ledger import history
from tasks.core.registry.results import PromotionResult, get_result, promotion_key, publication_key
from tasks.core.retraining.leases import renew
from tasks.core.store.documents import read_document
from tasks.core.training.plan import plan_training
from tasks.stages import run_stage
from tasks.timeouts import SHORT

ROUNDS = 3  # maximum number of champions that a challenger is compared with


@task(timeout_seconds=SHORT)
def request_training(request: RetrainRequest) -> TrainRequest:
    """The training on the pinned or newest dataset version, weighted by drifted prompts; resolved, with its key."""
    training = training_of(request)
    plan = plan_training(*open_model(training.model), training)
    get_run_logger().info("retrain (%s): dataset version %s, training %s", request.cause, plan.version, plan.key)
    return training.model_copy(update={"key": plan.key})


def training_of(request: RetrainRequest) -> TrainRequest:
    """The training of a retrain, fully resolved: the stage resolves nothing itself."""
    installation, model = open_model(request.model)
    store = installation.store
    dataset = request.dataset or model.dataset
    manifest = load_manifest(store, dataset, pinned_version(store, model.name, dataset))
    base = base_fingerprint(model.base)
    return TrainRequest(
        model=model.name,
        dataset=manifest.dataset,
        version=manifest.version,
        demand=read_document(store, DriftRecord, request.report).fresh if request.report else (),
        base=base if is_hub_name(base) else "",  # pins a Hub model to one commit for all stages
        train=model.preset.train,
    )


def train_stage(training: TrainRequest) -> str:
    """Run the training; returns its key."""
    run_stage("train-lora", training, training.key)
    return training.key


def evaluate_and_promote(request: RetrainRequest, training: TrainRequest, key: str) -> PromotionResult:
    """Run evaluation and gate; repeated against the new champion if it changed in the meantime.

    A withdrawn training is rejected without an evaluation.

    Raises:
        LeaseLost: the retrain was taken for dead meanwhile, and another may have started.
    """
    installation, model = open_model(request.model)
    for _ in range(ROUNDS):
        entries = history(installation.store, model.name)
        renew(installation.store, model.name, request.decision)
        try:
            return promote_stage(model, evaluate_stage(request, training, key))
        except ReleaseWithdrawn as withdrawn:
            return _rejected(model.name, str(withdrawn))
        except StageFailed as failure:
            if history(installation.store, model.name) == entries:
                raise
            get_run_logger().warning("%s; the champion has changed: evaluating again", failure)
    raise StageFailed("promote-champion", "", f"the champion has changed {ROUNDS} times")


def _rejected(model: str, reason: str) -> PromotionResult:
    decision = GateDecision(verdict="keep", reason=reason, checks=(refused(reason),))
    return PromotionResult(
        key="", model=model, finished=clock.now(), evaluation="", decision=decision, generation=0, release=""
    )


def evaluate_stage(request: RetrainRequest, training: TrainRequest, key: str) -> str:
    """Run the evaluation, also on the drifted prompts; returns its key. A promoted training is not evaluated again."""
    installation, model = open_model(request.model)
    if won := winning_evaluation(installation, model, key):
        return won
    evaluation = EvaluateRequest(
        model=model.name,
        training=key,
        drifted=training.demand,
        report=request.report,
        evaluation=model.preset.evaluation,
        gate=model.preset.gate,
    )
    plan = plan_evaluation(installation, model, evaluation)
    run_stage("evaluate-challenger", evaluation.model_copy(update={"key": plan.key}), plan.key)
    return plan.key


def promote_stage(model: ModelConfig, evaluation: str) -> PromotionResult:
    """Run gate and promotion."""
    request = PromoteRequest(model=model.name, evaluation=evaluation, gate=model.preset.gate)
    key = promotion_key(request, model.preset.gate, evaluation)
    run_stage("promote-champion", request.model_copy(update={"key": key}), key)
    return get_result(open_installation().store, model.name, PromotionResult, key)


def publish_stage(promotion: PromotionResult) -> None:
    """Run the publication of the promoted generation; nothing when the champion was kept."""
    if promotion.generation:
        request = PublishRequest(model=promotion.model, generation=promotion.generation)
        run_stage("publish-champion", request, publication_key(promotion.model, promotion.generation))
