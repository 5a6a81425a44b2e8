"""Stages of a retrain as runs of their own deployments."""

from typing import cast

from prefect import State, Task, get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.deployments import run_deployment

from tasks.core.config.requests import ModelRequest
from tasks.core.errors import DyeworksError, StageCancelled, StageFailed
from tasks.labels import model_tag, stage_name
from tasks.timeouts import STAGE

MOST = 100  # attempts of one stage, over all retrains
OWN, FAILURES = 4, 2  # new attempts of one retrain that may fail or crash, and those that may fail


def _is_transient(task: Task[..., object], task_run: TaskRun, state: State[object]) -> bool:
    """Whether it was the server that could not be asked: the stage's run goes on, and the next try joins it."""
    return not isinstance(state.result(raise_on_failure=False), DyeworksError)


@task(
    task_run_name="{name}",
    timeout_seconds=STAGE,
    retries=10,
    retry_delay_seconds=30,
    retry_condition_fn=_is_transient,
)
def run_stage(name: str, spec: ModelRequest, key: str) -> None:
    """Run a stage's deployment to its end.

    The idempotency key is model, stage, the stage's key and the number of the attempt: a running attempt is joined, the
    result of a completed one is used, and after a failed or crashed one the next is started. If the run is cancelled
    now, the retrain ends; after one that was cancelled in an earlier retrain the next is started.

    Raises:
        StageFailed: too many new attempts did not complete.
        StageCancelled: the stage was cancelled.
    """
    logger = get_run_logger()
    attempts = [f"{spec.model}-{name}-{key}-{number}" for number in range(1, MOST + 1)]
    existing, failed = _existing(attempts), list[bool]()
    message, run_id = "all attempts are used up", ""
    for number, attempt in enumerate(attempts, 1):
        run = cast(
            FlowRun,
            run_deployment(
                f"{name}/{name}",
                parameters={"spec": spec.model_dump(mode="json")},
                flow_run_name=stage_name(spec.model, name, key, number),  # automations match the name
                idempotency_key=attempt,
                tags=[model_tag(spec.model)],
                poll_interval=1,
            ),
        )
        run_id = str(run.id)
        if run.state is not None and run.state.is_completed():
            return
        if run.state is not None and run.state.is_cancelled() and not existing.get(attempt):
            raise StageCancelled(name, run_id)
        message = (run.state.message if run.state else None) or "no message"
        logger.warning("%s: %s", attempt, message)
        if attempt not in existing:
            failed.append(run.state is not None and run.state.is_failed())
        if len(failed) == OWN or sum(failed) == FAILURES:
            break
    raise StageFailed(name, run_id, message)


def _existing(attempts: list[str]) -> dict[str, bool]:
    """The attempts that exist, and whether each has ended."""
    chosen = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=attempts))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=chosen, limit=MOST)
    return {run.idempotency_key or "": run.state is not None and run.state.is_final() for run in runs}
