"""Outcomes of retrains: recorded by the run itself, or by reconcile for a run that ended without one."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

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
from tasks.core.retraining.decisions import Outcome, RetrainDecision, make_decision, read_decisions, record_decision
from tasks.timeouts import SHORT

NEWEST = 200  # runs that are searched for those of a decision
GRACE = timedelta(minutes=10)  # within which a crashed run is restarted


@task(timeout_seconds=SHORT)
def record_outcome(request: RetrainRequest, training: TrainRequest, key: str, promotion: PromotionResult) -> None:
    """Record the outcome and the costs of the retrain with this training's key: the policy uses both."""
    verdict, reason = promotion.decision.verdict, promotion.decision.reason
    outcome: Outcome = "promote" if promotion.generation else "keep"
    decision = _record(request, outcome, reason, training.version, promotion.generation, key)
    text = f"**{verdict}** (started by {request.cause}, {decision.gpu_hours:.2g} GPU-hours): {reason}"
    create_markdown_artifact(text, key=artifact_key(training.model, "retrain"), description="How the retrain ended")


def record_failure(flow: Flow[..., object], flow_run: FlowRun, state: State[object]) -> None:
    """Record that a retrain failed, so that it no longer counts as in flight."""
    request = _request(flow_run)
    _record(request, "failed", state.message or "no message", "", 0, _training_key(request))


def _training_key(request: RetrainRequest) -> str:
    """The key of its training; empty when it cannot be resolved, which may be why the retrain failed."""
    from tasks.core.training.plan import plan_training  # noqa: PLC0415  late: reconcile need not load torch
    from tasks.retrain import training_of  # noqa: PLC0415

    try:
        return plan_training(*open_model(request.model), training_of(request)).key
    except DyeworksError:
        return ""


def _record(
    request: RetrainRequest, outcome: Outcome, reason: str, version: str, generation: int, training: str
) -> RetrainDecision:
    from tasks.core.retraining.costs import costs_of  # noqa: PLC0415  late: reconcile need not load torch

    installation, model = open_model(request.model)
    store = installation.store
    costs = costs_of(store, model.name, training, read_decisions(store, model.name)) if training else {}
    decision = make_decision(
        "outcome",
        clock.now(),
        ("none", reason),
        request.decision,
        dataset_version=version,
        generation=generation,
        outcome_of=request.decision,
        outcome=outcome,
        costs=costs,
        gpu_hours=sum(costs.values()),
    )
    record_decision(store, model.name, decision)
    return decision


def record_cancellation(request: RetrainRequest, stopped: StageCancelled) -> State[None]:
    """Record that a retrain was cancelled; returns its final state, which no automation restarts."""
    _record(request, "cancelled", str(stopped), "", 0, _training_key(request))
    return Cancelled(message=str(stopped))


@task(retries=2, retry_delay_seconds=5, timeout_seconds=SHORT)
def close_retrains(request: ReconcileRequest) -> None:
    """Record the outcome of retrains whose run ended without one: cancelled, or crashed and not restarted."""
    installation, model = open_model(request.model)
    runs = _runs() if (pending := list(_without_outcome(read_decisions(installation.store, model.name)))) else []
    for decision in pending:
        own_runs = [run for run in runs if _request(run).decision == decision.id]
        if own_runs and (found := _ended(own_runs)):
            outcome, reason = found
            request_of_run = _request(own_runs[0])
            _record(request_of_run, outcome, reason, "", 0, _training_key(request_of_run))
            get_run_logger().warning("retrain %s: %s (%s)", decision.id, outcome, reason)


def _without_outcome(history: list[RetrainDecision]) -> Iterator[RetrainDecision]:
    ended = {decision.outcome_of for decision in history}
    yield from (d for d in history if d.action == "retrain" and d.id not in ended)


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


def _ended(runs: list[FlowRun]) -> tuple[Outcome, str] | None:
    """The outcome implied by the runs of a decision, newest first; None while one may still record its own."""
    states = [run.state for run in runs]
    newest = states[0]
    if newest is None or not all(state and state.is_final() for state in states) or newest.is_completed():
        return None
    if newest.is_crashed() and newest.timestamp + GRACE > datetime.now(UTC):
        return None
    outcome: Outcome = "cancelled" if newest.is_cancelled() else "failed"
    return outcome, newest.message or f"its run is {newest.name} and is not restarted"
