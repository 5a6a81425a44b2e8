"""Requests: invalid ones are rejected, and valid ones complete."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.context import with_hub_token
from tasks.core.config.model import ModelConfig
from tasks.core.errors import SettingError
from tasks.core.installation import Installation, open_installation
from tasks.core.registry.models import apply_config
from tasks.core.registry.results import save_result
from tasks.core.store import FolderStore
from tasks.gpu import gpu_slot
from tests.adire import adire
from tests.candidates import evaluation_result, trained
from tests.e2e.deployments.server import Server
from tests.events_server import EventsServer

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"spec": {"train": {"stpes": 5}}}, "stpes"),
        ({"spec": {"train": {"steps": "many"}}}, "many"),
        ({"spec": {"train": {"steps": 0}}}, "0"),
        ({"spec": {"train": {"prior": {"wieght": 1}}}}, "wieght"),
        ({"spec": {"train": {"compute": {"processes": "two"}}}}, "two"),
    ],
)
def test_invalid_specification_is_rejected_when_the_run_is_created(
    server: Server, parameters: dict[str, object], message: str
) -> None:
    answer = server.create("train-lora", parameters)
    assert answer.status_code == 409
    assert message in answer.text


def test_unknown_parameter_is_reported_by_name(server: Server) -> None:
    state, message = server.finish("train-lora", {"speck": {}})
    assert state == "CRASHED"  # Prefect accepts it, but cannot call the flow with it
    assert "speck" in message


def test_training_without_data_fails_and_its_run_is_labelled_by_model(server: Server) -> None:
    state, message = server.finish("train-lora", {})
    (run,) = [run for run in server.runs_of("train-lora") if run["state"]["type"] == "FAILED"]
    assert (run["name"], run["tags"]) == ("train-lora adire", ["model:adire"])
    assert state == "FAILED"
    assert "dataset 'adire': has no version yet" in message
    assert not (server.store / "checkpoints").exists()


def test_empty_and_corrupt_uploads_are_reported(server: Server) -> None:
    state, message = server.finish("ingest-upload", {"spec": {"dataset": "adire"}})
    assert state == "FAILED"
    assert "uploads/adire/ holds no picture" in message
    server.upload("broken.png", b"not a picture")
    state, message = server.finish("ingest-upload", {"spec": {"dataset": "adire"}})
    assert state == "FAILED"
    assert "none of its 1 pictures can be used" in message
    refusals = list((server.store / "quarantine/adire").glob("*.json"))
    assert [json.loads(p.read_text())["name"] for p in refusals] == ["broken.png"]


def test_the_monitor_without_a_champion_is_provisional(server: Server) -> None:
    state, _ = server.finish("monitor-drift", {})
    assert state == "COMPLETED"
    assert server.label("monitor-drift") == ("monitor-drift adire", ["model:adire"])
    (report,) = (server.store / "models/adire/drift/reports").glob("*/report.json")
    assert json.loads(report.read_text())["verdict"] == "provisional"


def test_an_operator_pauses_retraining(server: Server) -> None:
    state, message = server.finish("steer-retraining", {"spec": {"action": "pause", "reason": "the show opens"}})
    assert state == "COMPLETED", message
    decisions = [json.loads(p.read_text()) for p in (server.store / "models/adire/decisions").glob("*.json")]
    assert [(d["action"], d["reason"]) for d in decisions if d["cause"] == "operator"] == [
        ("pause", "operator: the show opens")
    ]


def test_notification_block_reports_a_champion_that_stays(server: Server) -> None:
    trained(FolderStore(server.store), "t1")
    nothing_measured = evaluation_result("e1", "t1", finished=datetime.now(UTC))
    save_result(FolderStore(server.store), nothing_measured)
    receiver = EventsServer()
    receiver.start()
    with temporary_settings({PREFECT_API_URL: f"{server.stack.url('server')}/api"}):
        template: dict[str, Any] = {"title": "{{subject}}", "text": "{{body}}"}
        CustomWebhookNotificationBlock(name="team", url=f"{receiver.url}/s3cr3t", json_data=template).save("team")
    state, message = server.finish("promote-champion", {"spec": {"evaluation": "e1"}})
    receiver.stop()
    assert state == "COMPLETED", message
    (notification,) = receiver.posted
    assert notification["title"] == "adire: the champion stays"
    assert "was not measured" in notification["text"]
    assert f"Run: {server.stack.url('server')}/flow-runs/flow-run/" in notification["text"]
    assert "s3cr3t" not in message
    (page,) = (server.store / "models/adire/results/promote").glob("*.html")
    assert "The bare base stays" in page.read_text()


def test_hub_token_is_read_from_a_secret_block(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYEWORKS_HUB_SECRET", "hub-token")
    model = adire(publishing={"hub_repo": "cloth/adire"})
    apply_config(open_installation().store, model)
    seen: list[tuple[Installation, ModelConfig]] = []
    with temporary_settings({PREFECT_API_URL: f"{server.stack.url('server')}/api"}):
        with pytest.raises(SettingError, match="no Secret block 'hub-token'"):
            with_hub_token("adire", lambda *found: seen.append(found))
        assert [found.publishing.hub_repo for _, found in seen] == [""], "the work without the Hub is done"
        Secret(value="hf_s3cr3t").save("hub-token")
        with_hub_token("adire", lambda *found: seen.append(found))
    settings, found = seen[-1][0].settings, seen[-1][1]
    assert found.publishing.hub_repo == "cloth/adire"
    assert settings.hub_token.get_secret_value() == "hf_s3cr3t"
    assert "s3cr3t" not in repr(settings)


def test_evaluations_take_turns_on_the_gpu(server: Server) -> None:
    def taken() -> int:
        return int(server.client.get("/v2/concurrency_limits/dyeworks-gpu").raise_for_status().json()["active_slots"])

    with temporary_settings({PREFECT_API_URL: f"{server.stack.url('server')}/api"}):
        with gpu_slot():
            assert taken() == 1
            leases = list((server.stack.home / "prefect/concurrency_leases").glob("*.json"))
            assert leases, "a restarted server can release the slot"
        assert taken() == 0
