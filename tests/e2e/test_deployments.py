"""Deployments on a stock Prefect server: bootstrap, parameters, and bad input told in one line."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deployments.stack import Stack
from tasks.core.http import PatientTransport
from tasks.core.settings import ROOT

pytestmark = pytest.mark.e2e
TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Server:
    """A server with all deployments and workers, and an empty store."""

    def __init__(self, home: Path) -> None:
        self.stack = Stack(home, {"DYEWORKS_MONITOR_CRON": "0 0 1 1 *"})
        self.store = home / "store"
        self.stack.start_server()
        self.stack.start_worker()
        self.client = httpx.Client(base_url=f"{self.stack.url('server')}/api", timeout=60, transport=PatientTransport())

    def create(self, name: str, parameters: dict[str, object]) -> httpx.Response:
        deployment = self.client.get(f"/deployments/name/{name}/{name}").json()["id"]
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.client.post(f"/deployments/{deployment}/create_flow_run", json=body)

    def finish(self, name: str, parameters: dict[str, object]) -> tuple[str, str]:
        """Run a deployment; the type and the message of its last state."""
        run = self.create(name, parameters).raise_for_status().json()["id"]
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            state = self.client.get(f"/flow_runs/{run}").json()["state"]
            if state["type"] in TERMINAL:
                return state["type"], (state["message"] or "") + self.log_of(run)
            time.sleep(0.5)
        raise AssertionError(f"{name} did not end: {state}")

    def log_of(self, run: str) -> str:
        """What a run has logged."""
        time.sleep(3)  # logs are sent in batches
        body = {"logs": {"flow_run_id": {"any_": [run]}}}
        return "\n".join(line["message"] for line in self.client.post("/logs/filter", json=body).json())

    def upload(self, name: str, data: bytes) -> None:
        place = self.store / "uploads/adire" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("deployments")
    started: list[Server] = []
    try:
        started.append(Server(home))
        yield started[0]
    finally:
        for one in started:
            one.stack.stop()


def test_bootstrap_changes_nothing_the_second_time(server: Server) -> None:
    again = subprocess.run(
        [sys.executable, "-m", "deployments.bootstrap"],
        env=server.stack.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stdout.strip() == "nothing to change"


def test_every_deployment_of_the_file_is_there(server: Server) -> None:
    names = {d["name"] for d in server.client.post("/deployments/filter", json={}).json()}
    assert names == {p.stem.replace("_", "-") for p in (ROOT / "flows").glob("[a-z]*.py")}
    automations = {a["name"] for a in server.client.post("/automations/filter", json={}).json()}
    assert {"drift retrains the model", "new data retrains the model", "new data is ingested"} <= automations


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"spec": {"train": {"stpes": 5}}}, "stpes"),
        ({"spec": {"train": {"steps": "many"}}}, "many"),
        ({"spec": {"train": {"steps": 0}}}, "0"),
    ],
)
def test_a_bad_specification_is_refused_when_the_run_is_created(
    server: Server, parameters: dict[str, object], said: str
) -> None:
    answer = server.create("train-lora", parameters)
    assert answer.status_code == 409
    assert said in answer.text


def test_an_unknown_parameter_fails_by_name(server: Server) -> None:
    state, message = server.finish("train-lora", {"speck": {}})
    assert state == "CRASHED"  # Prefect takes it, and cannot call the flow with it
    assert "speck" in message


def test_training_without_data_says_so(server: Server) -> None:
    state, message = server.finish("train-lora", {})
    assert state == "FAILED"
    assert "dataset 'adire': has no version yet" in message
    assert not (server.store / "checkpoints").exists()


def test_an_empty_and_a_corrupt_upload_say_so(server: Server) -> None:
    state, message = server.finish("ingest-upload", {})
    assert state == "FAILED"
    assert "uploads/adire/ holds no picture" in message
    server.upload("broken.png", b"not a picture")
    state, message = server.finish("ingest-upload", {})
    assert state == "FAILED"
    assert "none of its 1 pictures can be used" in message
    refusals = list((server.store / "quarantine/adire").glob("*.json"))
    assert [json.loads(p.read_text())["name"] for p in refusals] == ["broken.png"]


def test_an_unwritable_store_is_told_before_anything_starts(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment = server.stack.environment | {"DYEWORKS_STORE": str(tmp_path / "file" / "store")}
    done = subprocess.run(
        [sys.executable, "-m", "deployments.bootstrap"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("dyeworks: store")
    assert "Traceback" not in done.stderr


def test_the_monitor_without_a_champion_is_provisional(server: Server) -> None:
    state, _ = server.finish("monitor-drift", {})
    assert state == "COMPLETED"
    (report,) = (server.store / "drift/adire/reports").glob("*/report.json")
    assert json.loads(report.read_text())["verdict"] == "provisional"


def test_an_operator_pauses_retraining(server: Server) -> None:
    state, message = server.finish("steer-retraining", {"spec": {"action": "pause", "reason": "the show opens"}})
    assert state == "COMPLETED", message
    decisions = [json.loads(p.read_text()) for p in (server.store / "decisions/adire").glob("*.json")]
    assert [(d["action"], d["reason"]) for d in decisions if d["cause"] == "operator"] == [
        ("pause", "operator: the show opens")
    ]
