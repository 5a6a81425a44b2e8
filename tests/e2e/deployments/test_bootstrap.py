"""Bootstrap: what it registers, and what it does not change."""

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from prefect.client.orchestration import SyncPrefectClient

from deployments.claim import OWNER, ServerTaken, claim_server
from tasks.core.config.installation import ROOT
from tasks.core.installation import Installation
from tests.adire import installed
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
    assert {
        "drift retrains the model",
        "new data retrains the model",
        "a crashed ingest is started again",
    } <= automations


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


def test_a_run_is_started_by_the_worker_itself(server: Server) -> None:
    for pool in ("default", "gpu"):
        template = server.client.get(f"/work_pools/{pool}").json()["base_job_template"]
        assert template["variables"]["properties"]["command"]["default"].endswith(" -m prefect.engine")
    assert "starts runs by other -m" in server.bootstrap(DYEWORKS_RUN_COMMAND="other -m prefect.engine").stdout
    assert "starts runs by " in server.bootstrap().stdout
    assert server.bootstrap().stdout.strip() == "nothing to change"


def test_bootstrap_rejects_a_pool_of_another_type(server: Server) -> None:
    refused = server.bootstrap(DYEWORKS_POOL_TYPE="docker")
    assert refused.returncode == 1
    assert "DYEWORKS_POOL_TYPE: work pool default has type process, not docker" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_bootstrap_rejects_the_server_of_another_installation(server: Server, tmp_path: Path) -> None:
    refused = server.bootstrap(DYEWORKS_STORE=str(tmp_path))
    assert refused.returncode == 1
    for store in (server.store, tmp_path):
        identity = json.loads((store / "installation.json").read_text())["id"]
        assert f"store {store.as_uri()} (id {identity})" in refused.stderr
    assert f"`prefect variable delete {OWNER}`" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert server.bootstrap().stdout.strip() == "nothing to change"
    release = server.client.delete(f"/variables/name/{OWNER}")
    assert release.is_success
    assert server.bootstrap(DYEWORKS_STORE=str(tmp_path)).stdout.startswith(f"variable {OWNER} = ")
    assert server.bootstrap().returncode == 1
    server.client.delete(f"/variables/name/{OWNER}").raise_for_status()
    assert server.bootstrap().returncode == 0


def test_one_of_several_installations_claims_the_server(server: Server, tmp_path: Path) -> None:
    server.client.delete(f"/variables/name/{OWNER}").raise_for_status()
    together, installations = Barrier(6), [installed(tmp_path / f"{number}") for number in range(6)]

    def claim(installation: Installation) -> list[str] | ServerTaken:
        with SyncPrefectClient(f"{server.stack.url('server')}/api") as client:
            together.wait()
            try:
                return claim_server(client, installation)
            except ServerTaken as refusal:
                return refusal

    with ThreadPoolExecutor(len(installations)) as pool:
        found = list(pool.map(claim, installations))
    owner = server.client.get(f"/variables/name/{OWNER}").json()["value"]
    assert [answer for answer in found if isinstance(answer, list)] == [[f"variable {OWNER} = {owner}"]]
    assert all(answer.owner == owner for answer in found if isinstance(answer, ServerTaken))
    server.client.delete(f"/variables/name/{OWNER}").raise_for_status()
    assert server.bootstrap().returncode == 0


def test_a_store_that_was_moved_keeps_its_server(server: Server, tmp_path: Path) -> None:
    shutil.copy(server.store / "installation.json", tmp_path)
    moved = server.bootstrap(DYEWORKS_STORE=str(tmp_path)).stdout
    assert moved.startswith(f"variable {OWNER} = ")
    assert tmp_path.as_uri() in moved
    assert server.bootstrap().stdout.startswith(f"variable {OWNER} = ")


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
