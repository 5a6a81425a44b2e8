"""Uploads that no ingest has seen: an ingest is started, since their notification may be lost."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import cast

from prefect import get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment

from tasks.core.config.requests import ReconcileUploadsRequest
from tasks.core.data.differences import UploadDifference, find_difference
from tasks.core.installation import open_installation
from tasks.timeouts import LONG, SHORT

DEPLOYMENT = "ingest-upload"
OPEN = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
PAGE = 200  # runs of an answer, the most that the server gives
ATTEMPTS = 5  # runs for one difference, the next only after one that failed for another reason than the uploads


@task(timeout_seconds=SHORT)
def subscribed_datasets(request: ReconcileUploadsRequest) -> list[str]:
    """The dataset of the request, or each one that a model subscribes to; raises DatasetUnusable."""
    installation = open_installation()
    if request.dataset:
        installation.subscribers(request.dataset)
        return [request.dataset]
    return sorted({name for model in installation.models() for name in model.datasets})


@task(task_run_name="reconcile {dataset}", timeout_seconds=LONG)
def reconcile_dataset(dataset: str) -> None:
    """Start an ingest if the uploads differ from what the last one has listed, and nothing is being uploaded."""
    installation, logger = open_installation(), get_run_logger()
    settings = installation.settings
    difference = find_difference(installation.store, dataset)
    quiet = timedelta(seconds=settings.upload_quiet_seconds)
    if not difference:
        logger.info("dataset %s: the uploads are as the last ingest has found them", dataset)
    elif not difference.is_quiet(datetime.now(UTC), quiet):
        logger.info("dataset %s: %s; the next run looks again, as something was just uploaded", dataset, difference)
    elif _is_open(dataset):
        logger.info("dataset %s: %s; an ingest is on its way", dataset, difference)
    else:
        run = _start(dataset, difference)
        state = run.state.name if run.state else "unknown"
        logger.warning("dataset %s: %s that no ingest has seen: run %s (%s)", dataset, difference, run.name, state)


def _is_open(dataset: str) -> bool:
    """Whether an ingest of the dataset waits or runs."""
    return any((run.parameters.get("spec") or {}).get("dataset", "") in {"", dataset} for run in _open_runs())


def _open_runs() -> Iterator[FlowRun]:
    """Ingests that wait or run, page by page."""
    with get_client(sync_client=True) as client:
        for start in count(step=PAGE):
            runs = client.read_flow_runs(
                deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[DEPLOYMENT])),
                flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN))),
                limit=PAGE,
                offset=start,
            )
            yield from runs
            if len(runs) < PAGE:
                return


def _start(dataset: str, difference: UploadDifference) -> FlowRun:
    """The run for a difference: an earlier one, unless it failed or crashed."""
    for attempt in range(1, ATTEMPTS + 1):
        run = cast(
            FlowRun,
            run_deployment(
                f"{DEPLOYMENT}/{DEPLOYMENT}",
                parameters={"spec": {"dataset": dataset}},
                idempotency_key=f"uploads-{dataset}-{difference.digest}-{attempt}",
                timeout=0,
                as_subflow=False,
            ),
        )
        if run.state is None or not (run.state.is_failed() or run.state.is_crashed()):
            return run
    return run
