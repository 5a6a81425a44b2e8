"""How a retrain ended: recorded by itself, or by whoever finds that its run has ended without."""

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
from tasks.core.errors import DyeworksError, StageCancelled
from tasks.core.registry.results import PromotionResult
from tasks.core.retraining.decisions import Outcome, RetrainDecision, make_decision, read_decisions, record_decision
from tasks.timeouts import SHORT

NEWEST = 200  # runs among which those of a decision are looked for
GRACE = timedelta(minutes=10)  # in which a crashed run is started again


@task(timeout_seconds=SHORT)
def record_outcome(request: RetrainRequest, training: TrainRequest, key: str, promotion: PromotionResult) -> None:
    """Keep how the retrain with this training's key ended, and what it took: the policy looks at both."""
    verdict, reason = promotion.decision.verdict, promotion.decision.reason
    outcome: Outcome = "promote" if verdict == "promote" else "keep"
    decision = _record(request, outcome, reason, training.version, promotion.generation, key)
    text = f"**{verdict}** (started by {request.cause}, {decision.gpu_hours:.2g} GPU-hours): {reason}"
    create_markdown_artifact(text, key=artifact_key(training.model, "retrain"), description="How the retrain ended")


def record_failure(flow: Flow[..., object], flow_run: FlowRun, state: State[object]) -> None:
    """Keep that a retrain failed, so that it no longer counts as in flight."""
    request = _request(flow_run)
    _record(request, "failed", state.message or "no message", "", 0, _training_key(request))


def _training_key(request: RetrainRequest) -> str:
    """The key of what it would train; empty when that is unknown, which may be why it failed."""
    from tasks.core.training.plan import plan_training  # noqa: PLC0415  late: reconcile does not wait for torch
    from tasks.retrain import training_of  # noqa: PLC0415

    try:
        return plan_training(*open_model(request.model), training_of(request)).key
    except DyeworksError:
        return ""


def _record(
    request: RetrainRequest, outcome: Outcome, reason: str, version: str, generation: int, training: str
) -> RetrainDecision:
    from tasks.core.retraining.costs import costs_of  # noqa: PLC0415  late: reconcile does not wait for torch

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
    """Keep that a person has ended a retrain; the state that it ends in, which nothing starts again."""
    _record(request, "cancelled", str(stopped), "", 0, _training_key(request))
    return Cancelled(message=str(stopped))


@task(retries=2, retry_delay_seconds=5, timeout_seconds=SHORT)
def close_retrains(request: ReconcileRequest) -> None:
    """Record how retrains ended whose run is over without an outcome: cancelled, or cut off for good."""
    installation, model = open_model(request.model)
    runs = _runs() if (waiting := list(_without_outcome(read_decisions(installation.store, model.name)))) else []
    for decision in waiting:
        mine = [run for run in runs if _request(run).decision == decision.id]
        if mine and (found := _ended(mine)):
            outcome, reason = found
            asked = _request(mine[0])
            _record(asked, outcome, reason, "", 0, _training_key(asked))
            get_run_logger().warning("retrain %s: %s (%s)", decision.id, outcome, reason)


def _without_outcome(history: list[RetrainDecision]) -> Iterator[RetrainDecision]:
    ended = {decision.outcome_of for decision in history}
    yield from (d for d in history if d.action == "retrain" and d.id not in ended)


def _runs() -> list[FlowRun]:
    """The newest runs of retrains, the newest first."""
    chosen = DeploymentFilter(name=DeploymentFilterName(any_=["retrain-model"]))
    with get_client(sync_client=True) as client:
        order = FlowRunSort.EXPECTED_START_TIME_DESC
        return client.read_flow_runs(deployment_filter=chosen, sort=order, limit=NEWEST)


def _request(run: FlowRun) -> RetrainRequest:
    """What a run was asked for; the defaults where it was created with something else."""
    try:
        return RetrainRequest.model_validate(run.parameters.get("spec") or {})
    except ValidationError:
        return RetrainRequest()


def _ended(runs: list[FlowRun]) -> tuple[Outcome, str] | None:
    """The outcome that the runs of a decision leave, the newest first; None while one may still have its own."""
    states = [run.state for run in runs]
    newest = states[0]
    if newest is None or not all(state and state.is_final() for state in states) or newest.is_completed():
        return None
    if newest.is_crashed() and newest.timestamp + GRACE > datetime.now(UTC):
        return None
    outcome: Outcome = "cancelled" if newest.is_cancelled() else "failed"
    return outcome, newest.message or f"its run is {newest.name}, and nothing goes on with it"
