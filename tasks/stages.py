"""Stages of a retrain as runs of their own deployments."""

from typing import cast

from prefect import get_run_logger, task
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from tasks.core.errors import StageFailed
from tasks.core.specs import Spec

ATTEMPTS = 4


@task(task_run_name="{name}")
def run_stage(name: str, spec: Spec, key: str) -> None:
    """Run a stage's deployment to its end.

    The idempotency key is the stage's key and an attempt: an earlier attempt that is still running is
    joined, one that completed is taken as it is, one that failed or crashed is followed by the next.

    Raises:
        StageFailed: an attempt of this very run failed, or all attempts are used up.
    """
    logger = get_run_logger()
    message = "all attempts are used up"
    run_id = ""
    for attempt in range(1, ATTEMPTS + 1):
        run = cast(
            FlowRun,
            run_deployment(
                f"{name}/{name}",
                parameters={"spec": spec.model_dump(mode="json")},
                idempotency_key=f"{name}-{key}-{attempt}",
                poll_interval=1,
            ),
        )
        run_id = str(run.id)
        if run.state is not None and run.state.is_completed():
            return
        message = (run.state.message if run.state else None) or "no message"
        logger.warning("%s, attempt %d: %s", name, attempt, message)
        if run.state is not None and run.state.is_failed() and attempt > 1:
            break
    raise StageFailed(name, run_id, message)
