"""The life cycle of a release: adopted, replaced, rolled back to, withdrawn."""

import json
import os

import pytest
from mlflow.tracking import MlflowClient

from tasks.core.config.requests import PromoteRequest
from tasks.core.data.dataset import load_manifest
from tasks.core.events import Unhealthy, make_event
from tasks.core.lifecycle.promote import promote
from tasks.core.models.identity import WEIGHTS
from tasks.core.outbox import emit
from tasks.core.prefect_server import PrefectServer
from tasks.core.store import FolderStore
from tests.adire import adire, installed
from tests.candidates import measured, trained
from tests.e2e.deployments.server import TERMINAL, Server
from tests.unit.core.lifecycle.test_adopt import DIFFUSERS

pytestmark = pytest.mark.e2e


def test_lora_is_adopted_rolled_back_to_and_withdrawn(server: Server) -> None:
    store, channel = FolderStore(server.store), server.store / "models/adire/channels/champion.json"

    def served() -> tuple[int, str]:
        pointer = json.loads(channel.read_text())
        return pointer["generation"], pointer["release"]

    store.write(f"adopted/adire/{WEIGHTS}", DIFFUSERS)
    state, message = server.finish("adopt-lora", {"spec": {"source": "adopted/adire", "actor": "ada"}})
    assert state == "COMPLETED", message
    number, first = served()
    assert number == 1
    mlflow = MlflowClient(tracking_uri=server.environment["MLFLOW_TRACKING_URI"])
    trained(store, "t2", mlflow.create_run(mlflow.create_experiment("elsewhere")).info.run_id)
    assert promote(installed(store), adire(), PromoteRequest(evaluation=measured(store, "t2", 1))).generation == 2

    prefect = PrefectServer({"PREFECT_API_URL": f"{server.stack.url('server')}/api"})
    reason = """it's "{{ bad }}": {'a': 1}"""
    payload = Unhealthy(generation=2, release="ab", kind="health", reason=reason)
    emit(store, prefect, make_event("dyeworks.champion.unhealthy", "adire", payload))
    deployment = server.client.get("/deployments/name/roll-back/roll-back").json()["id"]
    body = {"deployments": {"id": {"any_": [deployment]}}}
    (run,) = server.until(lambda: server.client.post("/flow_runs/filter", json=body).json(), "a roll-back")
    assert run["parameters"] == {"spec": {"model": "adire", "leaves": 2, "actor": "storefront guard", "reason": reason}}
    ended = server.until(lambda: set(server.states(run["id"])) & TERMINAL, "the roll-back ends")
    assert ended == {"COMPLETED"}, server.log_of(run["id"])
    assert served() == (3, first)
    assert server.label("roll-back") == ("roll-back adire", ["model:adire"])

    withdrawal = {"generation": 1, "actor": "ada", "reason": "a picture was removed", "delete_weights": True}
    state, message = server.finish("withdraw-release", {"spec": withdrawal})
    assert state == "COMPLETED", message
    assert served() == (4, ""), "the bare base"


def test_what_nothing_needs_is_swept(server: Server, dataset: str) -> None:
    store = FolderStore(server.store)
    for key in ("models/adire/renders/old/way/prompt.png", "quarantine/cloth/old.json"):
        store.write(key, b"old")
        os.utime(server.store / key, (0, 0))
    before = [*store.list("")]
    state, message = server.finish("sweep-store", {"spec": {"dry_run": True}})
    assert state == "COMPLETED", message
    assert "2 objects of 0.0 MiB would be deleted" in message
    assert [*store.list("")] == before
    state, message = server.finish("sweep-store", {"spec": {"retention": {"generations": 1}}})
    assert state == "COMPLETED", message
    assert set(before) - set(store.list("")) == {"models/adire/renders/old/way/prompt.png", "quarantine/cloth/old.json"}
    assert server.create("sweep-store", {"spec": {"retention": {"prompts": 0}}}).status_code == 409


def test_a_picture_is_forgotten(server: Server, dataset: str) -> None:
    store, item = FolderStore(server.store), load_manifest(FolderStore(server.store), dataset).items[0]
    spec = {"dataset": dataset, "picture": item.name, "actor": "ada"}
    state, message = server.finish("forget", {"spec": spec | {"dry_run": True}})
    assert state == "COMPLETED", message
    assert store.exists(f"blobs/{item.sha256}")
    state, message = server.finish("forget", {"spec": spec})
    assert state == "COMPLETED", message
    assert not store.exists(f"blobs/{item.sha256}")
    assert not [key for key in store.list("") if item.sha256.encode() in store.read(key)]
    state, message = server.finish("forget", {"spec": spec})
    assert state == "FAILED"
    assert f"has no picture '{item.name}'" in message
