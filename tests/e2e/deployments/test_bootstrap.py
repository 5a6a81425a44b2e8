"""Bootstrap: what it registers, and what it does not change."""

import subprocess
from pathlib import Path

import pytest

from tasks.core.config.installation import ROOT
from tests.e2e.deployments.server import DYEWORKS, Server

pytestmark = pytest.mark.e2e
WATCH = "dyeworks: a run without heartbeats has crashed"


def named(name: str) -> dict[str, object]:
    """A filter of automations by name."""
    return {"automations": {"name": {"any_": [name]}}}


def test_bootstrap_changes_nothing_the_second_time(server: Server) -> None:
    assert server.bootstrap().stdout.strip() == "nothing to change"


def test_every_deployment_of_the_file_is_there(server: Server) -> None:
    names = {d["name"] for d in server.client.post("/deployments/filter", json={}).json()}
    assert names == {p.stem.replace("_", "-") for p in (ROOT / "flows").glob("[a-z]*.py")}
    automations = {a["name"] for a in server.client.post("/automations/filter", json={}).json()}
    assert {"drift retrains the model", "new data retrains the model", "new data is ingested"} <= automations


def test_bootstrap_does_not_overwrite_changed_limits_and_automations(server: Server) -> None:
    server.client.patch("/work_pools/gpu", json={"concurrency_limit": 3}).raise_for_status()
    (watch,) = server.client.post("/automations/filter", json=named(WATCH)).json()
    server.client.patch(f"/automations/{watch['id']}", json={"enabled": False}).raise_for_status()
    assert server.bootstrap().stdout.strip() == "nothing to change"
    assert server.client.get("/work_pools/gpu").json()["concurrency_limit"] == 3
    assert not server.client.get(f"/automations/{watch['id']}").json()["enabled"]
    server.client.patch("/work_pools/gpu", json={"concurrency_limit": 1}).raise_for_status()
    server.client.delete(f"/automations/{watch['id']}").raise_for_status()
    assert server.bootstrap().stdout.strip() == f"automation {WATCH!r} created"


def test_bootstrap_rejects_a_pool_of_another_type(server: Server) -> None:
    refused = server.bootstrap(DYEWORKS_POOL_TYPE="docker")
    assert refused.returncode == 1
    assert "DYEWORKS_POOL_TYPE: work pool default has type process, not docker" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_every_run_of_a_deployment_sends_heartbeats(server: Server) -> None:
    given = {d["name"]: d["job_variables"]["env"] for d in server.client.post("/deployments/filter", json={}).json()}
    assert {env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] for env in given.values()} == {"30"}
    assert given["train-lora"]["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"


def test_an_unwritable_store_is_reported_before_anything_starts(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment = server.stack.environment | {"DYEWORKS_STORE": str(tmp_path / "file" / "store")}
    done = subprocess.run(
        [DYEWORKS, "bootstrap"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("dyeworks: store")
    assert "Traceback" not in done.stderr
