"""Queries of the demo to the Prefect server, through Prefect's own client, which retries failed requests."""

from typing import NamedTuple
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterStartTime,
)
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort

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

    def progress(self, key: str) -> str:
        """The newest description of a progress artifact."""
        found = self.client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), sort=ArtifactSort.UPDATED_DESC, limit=1
        )
        return found[0].description or "" if found else ""

    def start(self, deployment: str) -> None:
        """Run a deployment now, like `prefect deployment run`; an idempotency key makes it safe to retry."""
        found = self.client.read_deployment_by_name(f"{deployment}/{deployment}")
        self.client.create_flow_run_from_deployment(found.id, idempotency_key=str(uuid4()))
