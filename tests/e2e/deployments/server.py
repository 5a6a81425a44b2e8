"""A stock Prefect server with all deployments, workers and an empty store, with helpers for tests."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from deployments.stack import Stack
from tasks.core.config.installation import ROOT
from tasks.core.config.model import ModelConfig
from tasks.core.http import RetryTransport
from tasks.core.registry.models import apply_config
from tasks.core.store import open_store

T = TypeVar("T")
DYEWORKS = str(Path(sys.executable).with_name("dyeworks"))
BUSY_SECONDS = 180.0  # for all tries of a request: the machine is busy with trainings
TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Server:
    """A server with all deployments and workers, and a store with these models alone."""

    def __init__(self, home: Path, models: Sequence[ModelConfig], store: str = "", pools: Sequence[str] = ()) -> None:
        extra = {
            "DYEWORKS_MONITOR_CRON": "0 0 1 1 *",
            "DYEWORKS_RECONCILE_CRON": "0 0 1 1 *",
        }
        self.stack = Stack(home, extra | ({"DYEWORKS_STORE": store} if store else {}))
        self.store = home / "store"
        self.environment = self.stack.environment  # before a test changes the environment
        for model in models:
            apply_config(open_store(store or str(self.store)), model)
        self.stack.start_server()
        self.stack.start_worker(*pools)
        self.client = httpx.Client(
            base_url=f"{self.stack.url('server')}/api", timeout=60, transport=RetryTransport(seconds=BUSY_SECONDS)
        )

    def until(self, what: Callable[[], T], that: str) -> T:
        """Wait until the value is truthy, and return it."""
        deadline = time.monotonic() + 900
        while time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.2)
        raise AssertionError(f"never: {that}")

    def states(self, run: str) -> list[str]:
        """The types of all states of a run, in order."""
        found = self.client.get("/flow_run_states/", params={"flow_run_id": run}).raise_for_status().json()
        return [state["type"] for state in sorted(found, key=lambda state: str(state["timestamp"]))]

    def halfway(self, run: str) -> bool:
        """Whether a training has reported a step."""
        assert self.states(run)[-1] not in TERMINAL, self.log_of(run)
        body = {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"any_": ["progress"]}}}
        return any(float(a["data"]) > 0 for a in self.client.post("/artifacts/filter", json=body).json())

    def runs_after(self, run: str) -> list[str]:
        """The runs that an automation has started after this one."""
        spec = self.client.get(f"/flow_runs/{run}").json()["parameters"]["spec"]
        body = {"sort": "EXPECTED_START_TIME_ASC"}
        found = self.client.post("/flow_runs/filter", json=body).json()
        return [
            r["id"] for r in found if r["id"] != run and r["parameters"].get("spec", {}).get("train") == spec["train"]
        ]

    def resumed_from(self, seed: int) -> int:
        """The step from which the training with this seed last resumed."""
        results = [json.loads(p.read_text()) for p in (self.store / "models/adire/results").rglob("*.json")]
        (found,) = [int(r["resumed_from"]) for r in results if r.get("spec", {}).get("seed") == seed]
        return found

    def container(self, run: str) -> "subprocess.Popen[bytes]":
        """Run the command of a container, with the environment of the deployment."""
        deployment = self.client.get("/deployments/name/train-lora/train-lora").json()
        given = deployment["job_variables"]["env"] | {"PREFECT__FLOW_RUN_ID": run}
        line = [str(Path(sys.executable).parent / "prefect"), "flow-run", "execute"]
        return subprocess.Popen(line, env=self.environment | given)

    def create(self, name: str, parameters: Mapping[str, object], state: str = "SCHEDULED") -> httpx.Response:
        deployment = self.client.get(f"/deployments/name/{name}/{name}").json()["id"]
        body = {"parameters": parameters, "state": {"type": state}, "idempotency_key": str(uuid4())}
        return self.client.post(f"/deployments/{deployment}/create_flow_run", json=body)

    def finish(self, name: str, parameters: Mapping[str, object]) -> tuple[str, str]:
        """Run a deployment; returns the type and the message of its final state."""
        run = self.create(name, parameters).raise_for_status().json()["id"]
        deadline = time.monotonic() + 900
        while time.monotonic() < deadline:
            state = self.client.get(f"/flow_runs/{run}").json()["state"]
            if state["type"] in TERMINAL:
                return state["type"], (state["message"] or "") + self.log_of(run)
            time.sleep(0.5)
        raise AssertionError(f"{name} did not end: {state}")

    def cancel(self, run: str) -> None:
        self.client.post(f"/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}}).raise_for_status()

    def log_of(self, run: str) -> str:
        """The log of a run."""
        time.sleep(3)  # logs are sent in batches
        body = {"logs": {"flow_run_id": {"any_": [run]}}}
        return "\n".join(line["message"] for line in self.client.post("/logs/filter", json=body).json())

    def bootstrap(self, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Bootstrap again, with these settings."""
        line = [DYEWORKS, "bootstrap"]
        environment = self.environment | settings
        return subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

    def outcomes(self) -> dict[str, str]:
        """The outcomes of retrains by decision."""
        places = (self.store / "models/adire/decisions").glob("*.json")
        ends = [d for d in (json.loads(p.read_text()) for p in places) if d["cause"] == "outcome"]
        return {d["outcome_of"]: d["outcome"] for d in ends}

    def runs_of(self, name: str) -> list[dict[str, Any]]:
        """All runs of a deployment, newest first."""
        body = {"deployments": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_DESC"}
        found: list[dict[str, Any]] = self.client.post("/flow_runs/filter", json=body).raise_for_status().json()
        return found

    def label(self, name: str) -> tuple[str, list[str]]:
        """Name and tags of a deployment's newest started run."""
        run = next(run for run in self.runs_of(name) if run["state"]["type"] != "SCHEDULED")
        return run["name"], run["tags"]

    def upload(self, name: str, data: bytes) -> None:
        place = self.store / "uploads/adire" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def processes_of(run: str) -> list[int]:
    """The processes of a run."""
    mark = f"PREFECT__FLOW_RUN_ID={run}".encode()
    return [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/environ") if mark in environment(p)]


def environment(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\0")
    except OSError:  # the process has ended
        return []
