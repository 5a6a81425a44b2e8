"""Stages of a retrain as runs of their own deployments."""

from typing import cast

from prefect import get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from tasks.core.config.requests import ModelRequest
from tasks.core.errors import StageCancelled, StageFailed
from tasks.labels import model_tag, stage_name
from tasks.timeouts import STAGE

MOST = 100  # attempts at the same stage, of all retrains together
OWN, FAILURES = 4, 2  # new attempts of one retrain that may end badly, and those of them that may fail, not crash


@task(task_run_name="{name}", timeout_seconds=STAGE)
def run_stage(name: str, spec: ModelRequest, key: str) -> None:
    """Run a stage's deployment to its end.

    The idempotency key is the stage's key and an attempt: an earlier attempt that is still running is
    joined, one that completed is taken as it is, one that failed or crashed is followed by the next. One that is
    cancelled meanwhile is the end; one that was cancelled in an earlier retrain is followed by the next.

    Raises:
        StageFailed: too many new attempts did not complete.
        StageCancelled: a person does not want it.
    """
    logger = get_run_logger()
    attempts = [f"{name}-{key}-{number}" for number in range(1, MOST + 1)]
    made, failed = _made(attempts), list[bool]()
    message, run_id = "all attempts are used up", ""
    for number, attempt in enumerate(attempts, 1):
        run = cast(
            FlowRun,
            run_deployment(
                f"{name}/{name}",
                parameters={"spec": spec.model_dump(mode="json")},
                flow_run_name=stage_name(spec.model, name, key, number),  # by which automations know it
                idempotency_key=attempt,
                tags=[model_tag(spec.model)],
                poll_interval=1,
            ),
        )
        run_id = str(run.id)
        if run.state is not None and run.state.is_completed():
            return
        if run.state is not None and run.state.is_cancelled() and not made.get(attempt):
            raise StageCancelled(name, run_id)
        message = (run.state.message if run.state else None) or "no message"
        logger.warning("%s: %s", attempt, message)
        if attempt not in made:
            failed.append(run.state is not None and run.state.is_failed())
        if len(failed) == OWN or sum(failed) == FAILURES:
            break
    raise StageFailed(name, run_id, message)


def _made(attempts: list[str]) -> dict[str, bool]:
    """Whether they have ended, of those attempts that exist."""
    chosen = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=attempts))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=chosen, limit=MOST)
    return {run.idempotency_key or "": run.state is not None and run.state.is_final() for run in runs}
