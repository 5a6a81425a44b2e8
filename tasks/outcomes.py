"""Outcomes of retrains: recorded by the run itself, or by reconcile for a run that ended without one."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from prefect import Flow, State, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled
from pydantic import ValidationError

from tasks.context import artifact_key, open_model
from tasks.core import clock
from tasks.core.config.requests import ReconcileRequest, RetrainRequest, TrainRequest
from tasks.core.config.stored import STORED
from tasks.core.errors import DyeworksError, StageCancelled
from tasks.core.registry.results import PromotionResult
from tasks.core.retraining.costs import costs_of
from tasks.core.retraining.decisions import (
    Outcome,
    RetrainDecision,
    make_decision,
    open_retrain,
    read_decisions,
    subject_of,
)
from tasks.core.retraining.leases import close_dead, end_retrain
from tasks.core.store import Store
from tasks.core.training.plan import plan_training
from tasks.retrain import training_of
from tasks.timeouts import SHORT

NEWEST = 200  # runs that are searched for those of a decision
GRACE = timedelta(minutes=10)  # within which a crashed run is restarted


class Ending(NamedTuple):
    """How a retrain ended."""

    outcome: Outcome
    reason: str
    generation: int = 0


@task(timeout_seconds=SHORT)
def record_outcome(request: RetrainRequest, training: TrainRequest, key: str, promotion: PromotionResult) -> None:
    """Record the outcome and the costs of the retrain with this training's key: the policy uses both."""
    installation, model = open_model(request.model)
    verdict, reason = promotion.decision.verdict, promotion.decision.reason
    ending = Ending("promote" if promotion.generation else "keep", reason, promotion.generation)
    decision = _append(installation.store, model.name, request.decision, ending, training, key)
    hours = decision.gpu_hours if decision else 0.0
    text = f"**{verdict}** (started by {request.cause}, {hours:.2g} GPU-hours): {reason}"
    create_markdown_artifact(text, key=artifact_key(training.model, "retrain"), description="How the retrain ended")


def record_failure(flow: Flow[..., object], flow_run: FlowRun, state: State[object]) -> None:
    """Record that a retrain failed, so that it is not in flight any more; one that was refused has no decision."""
    request = _request(flow_run)
    installation, model = open_model(request.model)
    current = open_retrain(read_decisions(installation.store, model.name))
    if current and _is_of(flow_run, current):
        ending = Ending("failed", state.message or "no message")
        _append(installation.store, model.name, current.id, ending, *_training(request))


def record_cancellation(request: RetrainRequest, stopped: StageCancelled) -> State[None]:
    """Record that a retrain was cancelled; returns its final state, which no automation restarts."""
    installation, model = open_model(request.model)
    ending = Ending("cancelled", str(stopped))
    _append(installation.store, model.name, request.decision, ending, *_training(request))
    return Cancelled(message=str(stopped))


@task(retries=2, retry_delay_seconds=5, timeout_seconds=SHORT)
def close_retrains(request: ReconcileRequest) -> None:
    """Record the outcome of a retrain whose run ended without one: cancelled, or crashed and not restarted."""
    installation, model = open_model(request.model)
    store, logger = installation.store, get_run_logger()
    current = open_retrain(read_decisions(store, model.name))
    own_runs = [run for run in _runs() if _is_of(run, current)] if current else []
    if current and own_runs and (ending := _ended(own_runs)):
        _append(store, model.name, current.id, ending, *_training(_request(own_runs[0])))
        logger.warning("retrain %s: %s (%s)", current.id, ending.outcome, ending.reason)
    elif lost := close_dead(store, model.name, model.preset.policy):
        logger.warning("retrain %s: %s (%s)", lost.outcome_of, lost.outcome, lost.reason)


def _is_of(run: FlowRun, decision: RetrainDecision) -> bool:
    """Whether a run is of the retrain: it was sent its id, or it is the one that a person started."""
    request = _request(run)
    by_hand = subject_of("manual", request.run or str(run.id))
    return decision.id == request.decision or (not request.decision and decision.subject == by_hand)


def _training(request: RetrainRequest) -> tuple[TrainRequest | None, str]:
    """The training and its key; (None, "") when it cannot be resolved, which may be why the retrain failed."""
    try:
        training = training_of(request)
        return training, plan_training(*open_model(request.model), training).key
    except DyeworksError:
        return None, ""


def _append(
    store: Store, model: str, retrain: str, ending: Ending, training: TrainRequest | None, key: str
) -> RetrainDecision | None:
    """Append the outcome with its costs, unless there is one; None where there is no such retrain."""
    costs = costs_of(store, model, key, read_decisions(store, model)) if key else {}
    outcome = make_decision(
        "outcome",
        clock.now(),
        ("none", ending.reason),
        retrain,
        dataset=training.dataset if training else "",
        dataset_version=training.version if training else "",
        generation=ending.generation,
        outcome_of=retrain,
        outcome=ending.outcome,
        costs=costs,
        gpu_hours=sum(costs.values()),
    )
    return end_retrain(store, model, outcome)


def _runs() -> list[FlowRun]:
    """The newest flow runs of retrain-model, newest first."""
    chosen = DeploymentFilter(name=DeploymentFilterName(any_=["retrain-model"]))
    with get_client(sync_client=True) as client:
        order = FlowRunSort.EXPECTED_START_TIME_DESC
        return client.read_flow_runs(deployment_filter=chosen, sort=order, limit=NEWEST)


def _request(run: FlowRun) -> RetrainRequest:
    """The request of a run, also one of a later version; the defaults where its parameters are invalid."""
    try:
        return RetrainRequest.model_validate(run.parameters.get("spec") or {}, extra="ignore", context=STORED)
    except ValidationError:
        return RetrainRequest()


def _ended(runs: list[FlowRun]) -> Ending | None:
    """The ending implied by the runs of a decision, newest first; None while one may still record its own."""
    states = [run.state for run in runs]
    newest = states[0]
    if newest is None or not all(state and state.is_final() for state in states) or newest.is_completed():
        return None
    if newest.is_crashed() and newest.timestamp + GRACE > datetime.now(UTC):
        return None
    reason = newest.message or f"its run is {newest.name} and is not restarted"
    return Ending("cancelled" if newest.is_cancelled() else "failed", reason)
