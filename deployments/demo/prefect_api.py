"""Queries of the demo to the Prefect server, through Prefect's own client, which retries failed requests."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort

from deployments.demo.timing import STAGES, WORK, RunTimes

NEWEST = 60  # number of runs that are read


class StartedRun(NamedTuple):
    """The fields of a started flow run that the demo shows."""

    id: str
    flow: str
    state: str
    message: str


class PrefectApi:
    """Queries to a Prefect server."""

    def __init__(self, url: str) -> None:
        self.client = SyncPrefectClient(f"{url}/api")

    def runs(self) -> list[StartedRun]:
        """The started flow runs, newest first."""
        flows = {flow.id: flow.name for flow in self.client.read_flows()}
        started = FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False))
        found = self.client.read_flow_runs(flow_run_filter=started, sort=FlowRunSort.START_TIME_DESC, limit=NEWEST)
        return [
            StartedRun(str(run.id), flows.get(run.flow_id, ""), run.state.type.value, run.state.message or "")
            for run in found
            if run.state
        ]

    def progress(self, run: str) -> str:
        """The description of the progress artifact of a run; empty if it has none."""
        of_run = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(run)]), type=ArtifactFilterType(any_=["progress"])
        )
        found = self.client.read_artifacts(artifact_filter=of_run, sort=ArtifactSort.UPDATED_DESC, limit=1)
        return found[0].description or "" if found else ""

    def start(self, deployment: str) -> None:
        """Run a deployment now, as `prefect deployment run` does; the idempotency key makes retries safe."""
        found = self.client.read_deployment_by_name(f"{deployment}/{deployment}")
        self.client.create_flow_run_from_deployment(found.id, idempotency_key=str(uuid4()))

    def schedule(self, deployment: str, active: bool) -> None:
        """Resume or pause the schedules of a deployment."""
        found = self.client.read_deployment_by_name(f"{deployment}/{deployment}")
        for schedule in found.schedules:
            self.client.update_deployment_schedule(found.id, schedule.id, active=active)

    def times(self) -> list[RunTimes]:
        """When the completed runs of stages and checks were created, taken, began and ended."""
        return [times for name in sorted({*STAGES, "monitor-drift"}) for times in self._times(name)]

    def _times(self, name: str) -> Iterator[RunTimes]:
        completed = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED]))
        found = self.client.read_flow_runs(
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])),
            flow_run_filter=FlowRunFilter(state=completed),
            limit=NEWEST,
        )
        for run in found:
            first = {state.name: state.timestamp for state in reversed(self.client.read_flow_run_states(run.id))}
            if run.created and {"Pending", "Running", "Completed"} <= set(first):
                moments = (first["Pending"], first["Running"], first["Completed"])
                yield RunTimes(name, run.created, *moments, self._work(run, name))

    def _work(self, run: FlowRun, name: str) -> tuple[datetime, datetime] | None:
        """Begin and end of the task that does the work of a stage."""
        tasks = self.client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
        work = [t for t in tasks if t.name.startswith(WORK.get(name, "-"))]
        spans = [(t.start_time, t.end_time) for t in work if t.start_time and t.end_time]
        return spans[0] if spans else None
