"""Uploads of which nobody was notified, on a stock Prefect server: they are ingested once, whatever they are."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tasks.core.data.dataset import load_manifest, newest_version
from tasks.core.data.differences import find_difference
from tasks.core.data.failures import last_failure
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.e2e.deployments.server import TERMINAL, Server
from tests.odd_pictures import encoded, noise

pytestmark = pytest.mark.e2e
DATASETS = ("batik", "ikat", "plangi", "tritik")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    overrides = {"policy": {"mode": "advise"}, "ingest": {"min_pictures": 2}}
    started: list[Server] = []
    try:
        started.append(Server(tmp_path_factory.mktemp("lost"), [adire(datasets=DATASETS, overrides=overrides)]))
        yield started[0]
    finally:
        for one in started:
            one.stack.stop()


@pytest.fixture
def store(server: Server) -> FolderStore:
    return FolderStore(server.store)


def upload(server: Server, dataset: str, **files: bytes) -> None:
    """Uploads of a minute ago, without a notification."""
    folder, past = server.store / "uploads" / dataset, (datetime.now(UTC) - timedelta(minutes=1)).timestamp()
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / f"{name}.png").write_bytes(data)
        os.utime(folder / f"{name}.png", (past, past))


def runs(server: Server, dataset: str) -> list[str]:
    """The final states of the dataset's ingests, newest first."""

    def found() -> list[str]:
        mine = [run for run in server.runs_of("ingest-upload") if run["parameters"]["spec"]["dataset"] == dataset]
        return [run["state"]["type"] for run in mine]

    server.until(lambda: set(found()) <= TERMINAL, "all ingests end")
    return found()


def reconcile(server: Server, **spec: str) -> str:
    """Run reconcile-uploads; returns its log."""
    state, message = server.finish("reconcile-uploads", {"spec": spec})
    assert state == "COMPLETED", message
    return message


def test_what_was_uploaded_unnoticed_is_ingested_once(server: Server, store: FolderStore) -> None:
    upload(server, "batik", a=encoded(noise(1)), b=encoded(noise(2)))
    reconcile(server)
    assert runs(server, "batik") == ["COMPLETED"]
    assert {item.name for item in load_manifest(store, "batik").items} == {"a.png", "b.png"}
    assert "as the last ingest has found them" in reconcile(server, dataset="batik")
    assert runs(server, "batik") == ["COMPLETED"]
    store.delete("uploads/batik/b.png")
    upload(server, "batik", c=encoded(noise(3)))
    reconcile(server)
    assert runs(server, "batik") == ["COMPLETED", "COMPLETED"]
    assert {item.name for item in load_manifest(store, "batik").items} == {"a.png", "c.png"}
    assert server.label("reconcile-uploads") == ("reconcile-uploads", [])


def test_what_cannot_be_used_starts_one_run_and_says_why(server: Server, store: FolderStore) -> None:
    upload(server, "ikat", a=encoded(noise(1)), torn=b"no picture")
    for _ in range(3):
        reconcile(server)
        assert runs(server, "ikat") == ["FAILED"]
    failed = last_failure(store, "ikat")
    assert failed
    assert failed.faults[0] == "1 usable picture, ingest.min_pictures expects 2"
    body = {"artifacts": {"key": {"any_": ["ikat-unusable"]}}}
    (artifact,) = server.client.post("/artifacts/filter", json=body).json()
    assert "1 usable picture, ingest.min_pictures expects 2" in artifact["data"]
    assert newest_version(store, "ikat") == ""
    store.delete("uploads/ikat/torn.png")
    upload(server, "ikat", b=encoded(noise(2)))
    reconcile(server)
    assert runs(server, "ikat") == ["COMPLETED", "FAILED"]
    assert last_failure(store, "ikat") is None


def test_a_run_that_failed_for_another_reason_is_followed_by_the_next(server: Server, store: FolderStore) -> None:
    upload(server, "plangi", a=encoded(noise(1)), b=encoded(noise(2)))
    deployment = server.client.get("/deployments/name/ingest-upload/ingest-upload").json()["id"]
    for attempt, state in enumerate(("FAILED", "CRASHED"), 1):
        key = f"uploads-plangi-{find_difference(store, 'plangi').digest}-{attempt}"
        body = {"parameters": {"spec": {"dataset": "plangi"}}, "state": {"type": state}, "idempotency_key": key}
        server.client.post(f"/deployments/{deployment}/create_flow_run", json=body).raise_for_status()
    reconcile(server, dataset="plangi")
    server.until(lambda: newest_version(store, "plangi"), "the dataset has a version")
    assert sorted(runs(server, "plangi")).count("COMPLETED") >= 1


def test_an_ingest_that_waits_is_not_doubled(server: Server, store: FolderStore) -> None:
    upload(server, "tritik", a=encoded(noise(1)), b=encoded(noise(2)))
    deployment = server.client.get("/deployments/name/ingest-upload/ingest-upload").json()["id"]
    later = {"scheduled_time": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
    body = {"parameters": {"spec": {"dataset": "tritik"}}, "state": {"type": "SCHEDULED", "state_details": later}}
    waiting = server.client.post(f"/deployments/{deployment}/create_flow_run", json=body).raise_for_status().json()
    assert "an ingest is on its way" in reconcile(server, dataset="tritik")
    assert len([r for r in server.runs_of("ingest-upload") if r["parameters"]["spec"]["dataset"] == "tritik"]) == 1
    server.client.delete(f"/flow_runs/{waiting['id']}").raise_for_status()
    reconcile(server, dataset="tritik")
    assert runs(server, "tritik") == ["COMPLETED"]


def test_a_dataset_that_fails_stops_no_other(server: Server, store: FolderStore) -> None:
    state, message = server.finish("reconcile-uploads", {"spec": {"dataset": "unknown"}})
    assert (state, "no model subscribes to it" in message) == ("FAILED", True)
    store.write("datasets/batik/failed.json", b"{")
    upload(server, "ikat", c=encoded(noise(7)))
    state, message = server.finish("reconcile-uploads", {"spec": {}})
    assert (state, "failed for 1 of the datasets, done for the others: dataset batik" in message) == ("FAILED", True)
    assert runs(server, "ikat")[0] == "COMPLETED"
