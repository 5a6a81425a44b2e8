"""Trainings that get SIGTERM, are cancelled, or lose their host."""

import os
import signal

import pytest

from tests.e2e.deployments.server import TERMINAL, Server, processes_of

pytestmark = pytest.mark.e2e
LORA = {
    "resolution": 64,
    "steps": 300,
    "batch": 1,
    "accumulation": 1,
    "checkpoint_every": 10_000,  # so that only SIGTERM writes a checkpoint
    "sample_every": 10_000,
}


def begin(server: Server, dataset: str, seed: int, state: str = "SCHEDULED") -> str:
    """Start a training; each seed is a separate training."""
    parameters: dict[str, object] = {"spec": {"dataset": dataset, "train": LORA | {"seed": seed}}}
    return str(server.create("train-lora", parameters, state).raise_for_status().json()["id"])


def test_training_stopped_by_sigterm_is_restarted_and_resumes(server: Server, dataset: str) -> None:
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


def test_training_in_a_container_is_rescheduled_on_sigterm(server: Server, dataset: str) -> None:
    run = begin(server, dataset, 2, "PENDING")  # no worker polls it
    with server.container(run) as process:
        server.until(lambda: server.halfway(run), "the training is under way")
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    server.until(lambda: server.states(run)[-1] in TERMINAL, "the run ends")
    assert "CRASHED" not in server.states(run)
    assert server.states(run)[-1] == "COMPLETED", server.log_of(run)
    assert server.resumed_from(2) > 0


def test_cancelled_training_is_not_restarted(server: Server, dataset: str) -> None:
    run = begin(server, dataset, 3)
    server.until(lambda: server.halfway(run), "the training is under way")
    server.cancel(run)
    server.until(lambda: server.states(run)[-1] in TERMINAL, "the run ends")
    assert server.states(run)[-1] == "CANCELLED", server.log_of(run)
    assert "CRASHED" not in server.states(run), "which would restart it"
    server.until(lambda: not processes_of(run), "its processes have ended")


@pytest.mark.slow
def test_training_of_a_lost_host_resumes_elsewhere(
    server: Server, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = LORA | {"seed": 4, "checkpoint_every": 10}
    parameters: dict[str, object] = {"spec": {"dataset": dataset, "train": often}}
    run = str(server.create("train-lora", parameters).raise_for_status().json()["id"])
    checkpoints = "models/*/checkpoints/*/step-*/checkpoint.json"
    before = set(server.store.glob(checkpoints))
    server.until(lambda: set(server.store.glob(checkpoints)) - before, "a checkpoint")
    server.stack.processes["worker-gpu"].kill()
    for pid in processes_of(run):
        os.kill(pid, signal.SIGKILL)
    assert server.states(run)[-1] == "RUNNING", "no process is left to report its end"
    server.until(lambda: server.states(run)[-1] == "CRASHED", "the missing heartbeats are noticed")
    again = server.until(lambda: server.runs_after(run), "another run of the same training")
    for name in ("DYEWORKS_STORE", "DYEWORKS_CACHE"):
        monkeypatch.setenv(name, server.environment[name])
    server.stack.start_worker("gpu")
    server.until(lambda: server.states(again[0])[-1] in TERMINAL, "the pool's slot is free, and the other run ends")
    assert server.states(again[0])[-1] == "COMPLETED", server.log_of(again[0])
    assert server.resumed_from(4) > 0
