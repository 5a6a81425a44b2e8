"""Retrains that are cancelled, or whose training is cancelled."""

import re
from datetime import UTC, datetime

import pytest

from tasks.core.retraining.decisions import make_decision, record_decision
from tasks.core.store import FolderStore
from tests.e2e.deployments.server import TERMINAL, Server

pytestmark = pytest.mark.e2e


def retrain(server: Server, dataset: str, decision: str) -> tuple[str, str]:
    """Start a retrain and wait for its training; returns the ids of both runs."""
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


def test_retrain_ends_when_its_training_is_cancelled(server: Server, dataset: str) -> None:
    parent, training = retrain(server, dataset, "by-training")
    trainings = len(server.runs_of("train-lora"))
    server.cancel(training)
    server.until(lambda: server.states(parent)[-1] in TERMINAL, "the retrain ends")
    assert server.states(training)[-1] == "CANCELLED", server.log_of(training)
    (stage,) = [run for run in server.runs_of("train-lora") if run["id"] == training]
    assert re.fullmatch(r"retrain adire: train-lora [0-9a-f]{4}", stage["name"])
    assert stage["tags"] == ["model:adire"]
    assert server.states(parent)[-1] == "CANCELLED", server.log_of(parent)
    assert server.outcomes()["by-training"] == "cancelled"
    assert len(server.runs_of("train-lora")) == trainings, "there is no other attempt"


@pytest.mark.slow
def test_cancelled_retrain_gets_an_outcome(server: Server, dataset: str) -> None:
    parent, training = retrain(server, dataset, "by-itself")
    server.cancel(parent)
    server.until(lambda: server.states(parent)[-1] in TERMINAL, "the retrain ends")
    assert server.states(parent)[-1] == "CANCELLED", server.log_of(parent)
    server.until(lambda: server.states(training)[-1] in TERMINAL, "so does its training")
    assert server.states(training)[-1] == "CANCELLED"
    state, message = server.finish("reconcile-champion", {})
    assert state == "COMPLETED", message
    assert server.outcomes()["by-itself"] == "cancelled"
    assert server.runs_of("retrain-model")[0]["id"] == parent, "nothing starts it again"
