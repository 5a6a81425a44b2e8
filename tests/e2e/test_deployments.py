"""Deployments on a stock Prefect server: bootstrap, parameters, bad input told in one line, SIGTERM and cancelling."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest
from mlflow.tracking import MlflowClient
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.stack import Stack
from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.context import everywhere
from tasks.core.config.installation import ROOT
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import EvaluationSpec, IngestSpec
from tasks.core.config.requests import PromoteRequest
from tasks.core.data.dataset import ingest
from tasks.core.errors import SettingError
from tasks.core.events import Unhealthy, make_event
from tasks.core.http import LOCAL_SECONDS, RetryTransport
from tasks.core.installation import Installation, open_installation
from tasks.core.lifecycle.promote import promote
from tasks.core.models.identity import WEIGHTS
from tasks.core.outbox import emit
from tasks.core.registry.models import apply_config
from tasks.core.registry.results import EvaluationResult, save_result
from tasks.core.retraining.decisions import make_decision, record_decision
from tasks.core.store import FolderStore
from tasks.gpu import one_on_the_gpu
from tests.adire import adire, installed
from tests.candidates import measured, trained
from tests.events_server import EventsServer
from tests.unit.core.lifecycle.test_adopt import DIFFUSERS

pytestmark = pytest.mark.e2e
T = TypeVar("T")
DYEWORKS = str(Path(sys.executable).with_name("dyeworks"))
TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
WATCH = "dyeworks: a run without heartbeats has crashed"
LORA = {
    "resolution": 64,
    "steps": 300,
    "batch": 1,
    "accumulation": 1,
    "checkpoint_every": 10_000,  # so that what is gone on from was written at SIGTERM
    "sample_every": 10_000,
}


class Server:
    """A server with all deployments and workers, and an empty store."""

    def __init__(self, home: Path) -> None:
        extra = {
            "DYEWORKS_MONITOR_CRON": "0 0 1 1 *",
            "DYEWORKS_RECONCILE_CRON": "0 0 1 1 *",
        }
        self.stack = Stack(home, extra)
        self.store = home / "store"
        self.environment = self.stack.environment  # before a test has settings of its own
        apply_config(FolderStore(self.store), adire(notify_block="custom-webhook/team"))
        self.stack.start_server()
        self.stack.start_worker()
        self.client = httpx.Client(
            base_url=f"{self.stack.url('server')}/api", timeout=60, transport=RetryTransport(seconds=LOCAL_SECONDS)
        )

    def until(self, what: Callable[[], T], that: str) -> T:
        """What, once it is true."""
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.2)
        raise AssertionError(f"never: {that}")

    def states(self, run: str) -> list[str]:
        """The types of all states that a run has had, the last one last."""
        found = self.client.get("/flow_run_states/", params={"flow_run_id": run}).raise_for_status().json()
        return [state["type"] for state in sorted(found, key=lambda state: str(state["timestamp"]))]

    def halfway(self, run: str) -> bool:
        """Whether a training has told that it is under way."""
        assert self.states(run)[-1] not in TERMINAL, self.log_of(run)
        body = {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"any_": ["progress"]}}}
        return any(float(a["data"]) > 0 for a in self.client.post("/artifacts/filter", json=body).json())

    def runs_after(self, run: str) -> list[str]:
        """The runs that an automation has made of this one."""
        spec = self.client.get(f"/flow_runs/{run}").json()["parameters"]["spec"]
        body = {"sort": "EXPECTED_START_TIME_ASC"}
        found = self.client.post("/flow_runs/filter", json=body).json()
        return [
            r["id"] for r in found if r["id"] != run and r["parameters"].get("spec", {}).get("train") == spec["train"]
        ]

    def resumed_from(self, seed: int) -> int:
        """The step from which the training with this seed went on last."""
        results = [json.loads(p.read_text()) for p in (self.store / "results").rglob("*.json")]
        (found,) = [int(r["resumed_from"]) for r in results if r.get("spec", {}).get("seed") == seed]
        return found

    def container(self, run: str) -> "subprocess.Popen[bytes]":
        """What a container runs, with the environment that the deployment gives it."""
        deployment = self.client.get("/deployments/name/train-lora/train-lora").json()
        given = deployment["job_variables"]["env"] | {"PREFECT__FLOW_RUN_ID": run}
        line = [str(Path(sys.executable).parent / "prefect"), "flow-run", "execute"]
        return subprocess.Popen(line, env=self.environment | given)

    def create(self, name: str, parameters: Mapping[str, object], state: str = "SCHEDULED") -> httpx.Response:
        deployment = self.client.get(f"/deployments/name/{name}/{name}").json()["id"]
        body = {"parameters": parameters, "state": {"type": state}, "idempotency_key": str(uuid4())}
        return self.client.post(f"/deployments/{deployment}/create_flow_run", json=body)

    def finish(self, name: str, parameters: Mapping[str, object]) -> tuple[str, str]:
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

    def bootstrap(self, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Bootstrap once more, with these settings."""
        line = [DYEWORKS, "bootstrap"]
        environment = self.environment | settings
        return subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

    def outcomes(self) -> dict[str, str]:
        """How retrains ended, by their decision."""
        places = (self.store / "decisions/adire").glob("*.json")
        ends = [d for d in (json.loads(p.read_text()) for p in places) if d["cause"] == "outcome"]
        return {d["outcome_of"]: d["outcome"] for d in ends}

    def runs_of(self, name: str) -> list[dict[str, Any]]:
        """All runs of a deployment, the newest first."""
        body = {"deployments": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_DESC"}
        found: list[dict[str, Any]] = self.client.post("/flow_runs/filter", json=body).raise_for_status().json()
        return found

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
    assert server.bootstrap().stdout.strip() == "nothing to change"


def named(name: str) -> dict[str, object]:
    """What filters automations by their name."""
    return {"automations": {"name": {"any_": [name]}}}


def test_every_deployment_of_the_file_is_there(server: Server) -> None:
    names = {d["name"] for d in server.client.post("/deployments/filter", json={}).json()}
    assert names == {p.stem.replace("_", "-") for p in (ROOT / "flows").glob("[a-z]*.py")}
    automations = {a["name"] for a in server.client.post("/automations/filter", json={}).json()}
    assert {"drift retrains the model", "new data retrains the model", "new data is ingested"} <= automations


def test_bootstrap_keeps_the_limits_and_automations_that_a_person_has_changed(server: Server) -> None:
    server.client.patch("/work_pools/gpu", json={"concurrency_limit": 3}).raise_for_status()
    (watch,) = server.client.post("/automations/filter", json=named(WATCH)).json()
    server.client.patch(f"/automations/{watch['id']}", json={"enabled": False}).raise_for_status()
    assert server.bootstrap().stdout.strip() == "nothing to change"
    assert server.client.get("/work_pools/gpu").json()["concurrency_limit"] == 3
    assert not server.client.get(f"/automations/{watch['id']}").json()["enabled"]
    server.client.patch("/work_pools/gpu", json={"concurrency_limit": 1}).raise_for_status()
    server.client.delete(f"/automations/{watch['id']}").raise_for_status()
    assert server.bootstrap().stdout.strip() == f"automation {WATCH!r} created"


def test_bootstrap_refuses_a_pool_of_another_type(server: Server) -> None:
    refused = server.bootstrap(DYEWORKS_POOL_TYPE="docker")
    assert refused.returncode == 1
    assert "DYEWORKS_POOL_TYPE: work pool default is of type process, and docker is asked for" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_every_run_of_a_deployment_sends_heartbeats(server: Server) -> None:
    given = {d["name"]: d["job_variables"]["env"] for d in server.client.post("/deployments/filter", json={}).json()}
    assert {env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] for env in given.values()} == {"30"}
    assert given["train-lora"]["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"


def test_evaluations_take_turns_on_the_gpu(server: Server) -> None:
    def taken() -> int:
        return int(server.client.get("/v2/concurrency_limits/dyeworks-gpu").raise_for_status().json()["active_slots"])

    with temporary_settings({PREFECT_API_URL: f"{server.stack.url('server')}/api"}):
        with one_on_the_gpu():
            assert taken() == 1
            leases = list((server.stack.home / "prefect/concurrency_leases").glob("*.json"))
            assert leases, "a server that is started again knows what to end"
        assert taken() == 0


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"spec": {"train": {"stpes": 5}}}, "stpes"),
        ({"spec": {"train": {"steps": "many"}}}, "many"),
        ({"spec": {"train": {"steps": 0}}}, "0"),
        ({"spec": {"train": {"prior": {"wieght": 1}}}}, "wieght"),
        ({"spec": {"train": {"compute": {"processes": "two"}}}}, "two"),
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


def test_training_without_data_says_so_and_its_run_is_named_and_tagged_by_its_model(server: Server) -> None:
    state, message = server.finish("train-lora", {})
    (run,) = [run for run in server.runs_of("train-lora") if run["state"]["type"] == "FAILED"]
    assert (run["name"], run["tags"]) == ("train-lora adire", ["model:adire"])
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


def test_people_are_told_of_a_champion_that_stays_by_a_block_of_the_server(server: Server) -> None:
    trained(FolderStore(server.store), "t1")
    nothing_measured = EvaluationResult(
        key="e1",
        model="adire",
        finished=datetime.now(UTC),
        training="t1",
        champion_generation=0,
        spec=EvaluationSpec(),
        fixed=("rings",),
        drifted=(),
        challenger={},
        champion={},
        traffic_from=None,
        pictures="",
        scorer="embedded",
    )
    save_result(FolderStore(server.store), nothing_measured)
    people = EventsServer()
    people.start()
    with temporary_settings({PREFECT_API_URL: f"{server.stack.url('server')}/api"}):
        told: dict[str, Any] = {"title": "{{subject}}", "said": "{{body}}"}
        CustomWebhookNotificationBlock(name="team", url=f"{people.url}/s3cr3t", json_data=told).save("team")
    state, message = server.finish("promote-champion", {"spec": {"evaluation": "e1"}})
    people.stop()
    assert state == "COMPLETED", message
    (notice,) = people.posted
    assert notice["title"] == "adire: the champion stays"
    assert "was not measured" in notice["said"]
    assert f"Run: {server.stack.url('server')}/flow-runs/flow-run/" in notice["said"]
    assert "s3cr3t" not in message
    (page,) = (server.store / "results/promote").glob("*.html")
    assert "The bare base stays" in page.read_text()


def test_the_hubs_token_is_in_a_secret_block(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYEWORKS_HUB_SECRET", "hub-token")
    model = adire(publishing={"hub_repo": "cloth/adire"})
    apply_config(open_installation().store, model)
    seen: list[tuple[Installation, ModelConfig]] = []
    with temporary_settings({PREFECT_API_URL: f"{server.stack.url('server')}/api"}):
        with pytest.raises(SettingError, match="no Secret block 'hub-token'"):
            everywhere("adire", lambda *found: seen.append(found))
        assert [found.publishing.hub_repo for _, found in seen] == [""], "what is to be done here is done"
        Secret(value="hf_s3cr3t").save("hub-token")
        everywhere("adire", lambda *found: seen.append(found))
    settings, found = seen[-1][0].settings, seen[-1][1]
    assert found.publishing.hub_repo == "cloth/adire"
    assert settings.hub_token.get_secret_value() == "hf_s3cr3t"
    assert "s3cr3t" not in repr(settings)


@pytest.fixture(scope="module")
def dataset(server: Server) -> str:
    """A dataset to train on."""
    draw_uploads(server.store / "uploads/cloth", 4, FIRST_TASTE, seed=1)
    ingest(FolderStore(server.store), "cloth", IngestSpec())
    return "cloth"


def begin(server: Server, dataset: str, seed: int, state: str = "SCHEDULED") -> str:
    """A training's run; each seed is a training of its own."""
    parameters: dict[str, object] = {"spec": {"dataset": dataset, "train": LORA | {"seed": seed}}}
    return str(server.create("train-lora", parameters, state).raise_for_status().json()["id"])


def processes_of(run: str) -> list[int]:
    """The processes that carry a run."""
    mark = f"PREFECT__FLOW_RUN_ID={run}".encode()
    return [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/environ") if mark in environment(p)]


def environment(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\0")
    except OSError:  # the process has ended
        return []


def test_a_training_that_gets_sigterm_is_started_again_and_goes_on(server: Server, dataset: str) -> None:
    run = begin(server, dataset, 1)
    server.until(lambda: server.halfway(run), "the training is under way")
    for pid in processes_of(run):
        os.kill(pid, signal.SIGTERM)
    server.until(lambda: server.states(run)[-1] in TERMINAL, "the run ends")
    assert server.states(run)[-1] == "CRASHED"
    again = server.until(lambda: server.runs_after(run), "another run of the same training")
    server.until(lambda: server.states(again[0])[-1] in TERMINAL, "the other run ends")
    assert server.states(again[0])[-1] == "COMPLETED", server.log_of(again[0])
    assert server.resumed_from(1) > 0


def test_a_training_in_a_container_that_gets_sigterm_is_put_back_into_the_queue(server: Server, dataset: str) -> None:
    run = begin(server, dataset, 2, "PENDING")  # which no worker takes
    with server.container(run) as process:
        server.until(lambda: server.halfway(run), "the training is under way")
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    server.until(lambda: server.states(run)[-1] in TERMINAL, "the run ends")
    assert "CRASHED" not in server.states(run)
    assert server.states(run)[-1] == "COMPLETED", server.log_of(run)
    assert server.resumed_from(2) > 0


def test_a_training_that_is_cancelled_is_not_started_again(server: Server, dataset: str) -> None:
    run = begin(server, dataset, 3)
    server.until(lambda: server.halfway(run), "the training is under way")
    server.client.post(f"/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}}).raise_for_status()
    server.until(lambda: server.states(run)[-1] in TERMINAL, "the run ends")
    assert server.states(run)[-1] == "CANCELLED", server.log_of(run)
    assert "CRASHED" not in server.states(run), "which is what starts it again"
    server.until(lambda: not processes_of(run), "its processes have ended")


def retrain(server: Server, dataset: str, decision: str) -> tuple[str, str]:
    """A retrain whose training runs; the ids of both runs."""
    made = make_decision("data", datetime.now(UTC), ("retrain", decision), decision)
    record_decision(FolderStore(server.store), "adire", made.model_copy(update={"id": decision}))
    before = {run["id"] for run in server.runs_of("train-lora")}
    spec = {"cause": "data", "dataset": dataset, "decision": decision}
    parent = str(server.create("retrain-model", {"spec": spec}).raise_for_status().json()["id"])

    def training() -> str:
        assert server.states(parent)[-1] not in TERMINAL, server.log_of(parent)
        new = [run for run in server.runs_of("train-lora") if run["id"] not in before]
        return next((str(run["id"]) for run in new if server.states(run["id"])[-1] == "RUNNING"), "")

    return parent, server.until(training, "its training runs")


def cancel(server: Server, run: str) -> None:
    server.client.post(f"/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}}).raise_for_status()


def test_a_retrain_whose_training_is_cancelled_ends_and_is_not_tried_again(server: Server, dataset: str) -> None:
    parent, training = retrain(server, dataset, "by-training")
    trainings = len(server.runs_of("train-lora"))
    cancel(server, training)
    server.until(lambda: server.states(parent)[-1] in TERMINAL, "the retrain ends")
    assert server.states(training)[-1] == "CANCELLED", server.log_of(training)
    (stage,) = [run for run in server.runs_of("train-lora") if run["id"] == training]
    assert re.fullmatch(r"retrain adire: train-lora [0-9a-f]{4}", stage["name"])
    assert stage["tags"] == ["model:adire"]
    assert server.states(parent)[-1] == "CANCELLED", server.log_of(parent)
    assert server.outcomes()["by-training"] == "cancelled"
    assert len(server.runs_of("train-lora")) == trainings, "there is no other attempt"


@pytest.mark.slow
def test_a_retrain_that_is_cancelled_gets_its_outcome(server: Server, dataset: str) -> None:
    parent, training = retrain(server, dataset, "by-itself")
    cancel(server, parent)
    server.until(lambda: server.states(parent)[-1] in TERMINAL, "the retrain ends")
    assert server.states(parent)[-1] == "CANCELLED", server.log_of(parent)
    server.until(lambda: server.states(training)[-1] in TERMINAL, "so does its training")
    assert server.states(training)[-1] == "CANCELLED"
    state, message = server.finish("reconcile-champion", {})
    assert state == "COMPLETED", message
    assert server.outcomes()["by-itself"] == "cancelled"
    assert server.runs_of("retrain-model")[0]["id"] == parent, "nothing starts it again"


@pytest.mark.slow
def test_a_host_that_vanishes_is_noticed_and_its_training_goes_on_elsewhere(
    server: Server, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = LORA | {"seed": 4, "checkpoint_every": 10}
    parameters: dict[str, object] = {"spec": {"dataset": dataset, "train": often}}
    run = str(server.create("train-lora", parameters).raise_for_status().json()["id"])
    kept = "checkpoints/*/step-*/checkpoint.json"
    before = set(server.store.glob(kept))
    server.until(lambda: set(server.store.glob(kept)) - before, "a checkpoint")
    server.stack.processes["worker-gpu"].kill()
    for pid in processes_of(run):
        os.kill(pid, signal.SIGKILL)
    assert server.states(run)[-1] == "RUNNING", "nobody is left to say that it has ended"
    server.until(lambda: server.states(run)[-1] == "CRASHED", "the missing heartbeats are noticed")
    again = server.until(lambda: server.runs_after(run), "another run of the same training")
    for name in ("DYEWORKS_STORE", "DYEWORKS_CACHE"):
        monkeypatch.setenv(name, server.environment[name])
    server.stack.start_worker("gpu")
    server.until(lambda: server.states(again[0])[-1] in TERMINAL, "the pool's slot is free, and the other run ends")
    assert server.states(again[0])[-1] == "COMPLETED", server.log_of(again[0])
    assert server.resumed_from(4) > 0


def test_a_lora_is_adopted_comes_back_by_itself_and_is_withdrawn(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, channel = FolderStore(server.store), server.store / "models/adire/channels/champion.json"

    def served() -> tuple[int, str]:
        told = json.loads(channel.read_text())
        return told["generation"], told["release"]

    store.write(f"adopted/adire/{WEIGHTS}", DIFFUSERS)
    state, message = server.finish("adopt-lora", {"spec": {"source": "adopted/adire", "actor": "ada"}})
    assert state == "COMPLETED", message
    number, first = served()
    assert number == 1
    mlflow = MlflowClient(tracking_uri=server.environment["MLFLOW_TRACKING_URI"])
    trained(store, "t2", mlflow.create_run(mlflow.create_experiment("elsewhere")).info.run_id)
    assert promote(installed(store), adire(), PromoteRequest(evaluation=measured(store, "t2", 1))).generation == 2

    monkeypatch.setenv("PREFECT_API_URL", f"{server.stack.url('server')}/api")
    reason = """it's "{{ bad }}": {'a': 1}"""
    payload = Unhealthy(generation=2, release="ab", kind="health", reason=reason)
    emit(store, make_event("dyeworks.champion.unhealthy", "adire", payload))
    deployment = server.client.get("/deployments/name/roll-back/roll-back").json()["id"]
    body = {"deployments": {"id": {"any_": [deployment]}}}
    (run,) = server.until(lambda: server.client.post("/flow_runs/filter", json=body).json(), "a roll-back")
    assert run["parameters"] == {"spec": {"model": "adire", "leaves": 2, "actor": "storefront guard", "reason": reason}}
    ended = server.until(lambda: set(server.states(run["id"])) & TERMINAL, "the roll-back ends")
    assert ended == {"COMPLETED"}, server.log_of(run["id"])
    assert served() == (3, first)

    withdrawal = {"generation": 1, "actor": "ada", "reason": "a picture was removed", "delete_weights": True}
    state, message = server.finish("withdraw-release", {"spec": withdrawal})
    assert state == "COMPLETED", message
    assert served() == (4, ""), "the bare base"
