"""What the demo asks the Prefect server."""

from uuid import uuid4

import httpx

from tasks.core.http import LOCAL_SECONDS, RetryTransport


class PrefectApi:
    """A few reads of the server's REST API."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=f"{url}/api", timeout=30, transport=RetryTransport(seconds=LOCAL_SECONDS))

    def runs(self) -> list[dict[str, str]]:
        """The flow runs that have started, newest first: id, name of the deployment's flow, state, message."""
        body = {"sort": "START_TIME_DESC", "limit": 60, "flow_runs": {"start_time": {"is_null_": False}}}
        flows = {f["id"]: f["name"] for f in self._post("/flows/filter", {})}
        return [
            {
                "id": str(run["id"]),
                "flow": str(flows.get(run["flow_id"], "")),
                "state": str(run["state_type"]),
                "message": _message(run["state"]),
            }
            for run in self._post("/flow_runs/filter", body)
        ]

    def training_progress(self) -> str:
        """The newest words of the training's progress bar."""
        body = {"sort": "UPDATED_DESC", "limit": 1, "artifacts": {"key": {"any_": ["training-progress"]}}}
        found = self._post("/artifacts/filter", body)
        return str(found[0]["description"]) if found else ""

    def start(self, deployment: str) -> None:
        """Run a deployment at once, as `prefect deployment run` does."""
        entry = self.client.get(f"/deployments/name/{deployment}/{deployment}").raise_for_status().json()
        body = {"state": {"type": "SCHEDULED"}, "idempotency_key": str(uuid4())}  # the request may be repeated
        self.client.post(f"/deployments/{entry['id']}/create_flow_run", json=body).raise_for_status()

    def _post(self, path: str, body: dict[str, object]) -> list[dict[str, object]]:
        answer: list[dict[str, object]] = self.client.post(path, json=body).raise_for_status().json()
        return answer


def _message(state: object) -> str:
    return str(state.get("message") or "") if isinstance(state, dict) else ""
