"""The dispatcher, with a real HTTP server that creates runs as Prefect does: one run a batch, whatever happens."""

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from deployments.gateway import dispatcher as module
from deployments.gateway.batches import UploadBatch
from deployments.gateway.database import batches
from deployments.gateway.dispatcher import PATIENCE, REFUSALS, Dispatcher
from deployments.gateway.outbox import Arrival, UploadOutbox
from tasks.core.prefect_server import PrefectServer
from tests.events_server import EventsServer
from tests.waiting import wait_for


@pytest.fixture
def outbox(outbox_url: str) -> Iterator[UploadOutbox]:
    opened = UploadOutbox(outbox_url)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORTEST_WAIT", 0.0)
    monkeypatch.setattr("deployments.gateway.ingest_runs.SECONDS", 0.5)


def add(outbox: UploadOutbox, *names: str, dataset: str = "cloth", ready: bool = True) -> None:
    found = [Arrival(dataset, name, f"{dataset}/{name}", ready=ready) for name in names]
    assert all(asyncio.run(outbox.add(found)))


def dispatcher(outbox: UploadOutbox, server: PrefectServer, quiet: float = 60, longest: float = 600) -> Dispatcher:
    return Dispatcher(outbox.batches, server, quiet, longest)


def only(outbox: UploadOutbox) -> UploadBatch:
    (batch,) = outbox.batches.unsent()
    return batch


def test_a_burst_becomes_one_run(outbox: UploadOutbox, events: EventsServer) -> None:
    add(outbox, "a", "b", ready=False)
    add(outbox, "c", dataset="linen", ready=False)
    one = dispatcher(outbox, events.prefect)
    assert 50 < one.run_once() <= 60 or one.run_once() == module.LOOK_SECONDS
    assert events.runs == {}
    add(outbox, "_READY")
    one.run_once()
    assert list(events.runs.values()) == ["cloth"]
    assert one.runs_started == 1
    assert outbox.batches.unsent() == []
    assert [burst.dataset for burst in outbox.batches.bursts()] == ["linen"]


@pytest.mark.parametrize(("quiet", "longest"), [(0.0, 600.0), (600.0, 1e-6)])
def test_a_burst_ends_when_it_is_quiet_or_long(
    outbox: UploadOutbox, events: EventsServer, quiet: float, longest: float
) -> None:
    add(outbox, "a", ready=False)
    dispatcher(outbox, events.prefect, quiet, longest).run_once()
    assert list(events.runs.values()) == ["cloth"]


def test_a_run_whose_answer_was_lost_is_not_started_again(outbox: UploadOutbox, events: EventsServer) -> None:
    add(outbox, "a")
    batch = outbox.batches.make("cloth")
    assert batch
    events.runs[batch.key] = "cloth"
    one = dispatcher(outbox, events.prefect)
    one.run_once()
    assert events.runs == {batch.key: "cloth"}
    assert one.runs_started == 0
    assert outbox.batches.unsent() == []


def test_nothing_is_sent_without_a_batch(outbox: UploadOutbox, events: EventsServer) -> None:
    assert dispatcher(outbox, events.prefect).run_once() == module.LOOK_SECONDS
    assert events.paths == []


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503, 200])
def test_a_server_that_is_not_able_is_tried_again(outbox: UploadOutbox, events: EventsServer, status: int) -> None:
    events.refuse = {"cloth": status}
    if status == 200:  # an answer without a run: not an API, such as a proxy's page
        events.run = lambda body: (200, b"<html>")  # type: ignore[method-assign]
    add(outbox, "a")
    dispatcher(outbox, events.prefect).run_once()
    assert (only(outbox).refusals, only(outbox).dead) == (0, False)


def test_a_problem_is_logged_once_while_it_lasts(outbox: UploadOutbox, caplog: pytest.LogCaptureFixture) -> None:
    add(outbox, "a")
    one = dispatcher(outbox, PrefectServer())
    for _ in range(REFUSALS + 2):
        one.run_once()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert not only(outbox).dead


def test_a_server_that_comes_back(outbox: UploadOutbox, events: EventsServer) -> None:
    add(outbox, "a")
    nowhere = PrefectServer({"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    dispatcher(outbox, nowhere).run_once()
    dispatcher(outbox, PrefectServer()).run_once()  # not configured
    events.deployed = False
    dispatcher(outbox, events.prefect).run_once()
    events.deployed, events.authorization = True, "Basic secret"
    dispatcher(outbox, events.prefect).run_once()
    assert events.runs == {}
    events.authorization, events.csrf_token = "", "token"
    dispatcher(outbox, events.prefect).run_once()
    assert list(events.runs.values()) == ["cloth"]
    assert outbox.batches.unsent() == []


def test_a_batch_that_makes_the_server_fail_holds_up_no_other(outbox: UploadOutbox, events: EventsServer) -> None:
    events.refuse = {"cloth": 500}
    add(outbox, "a")
    one = dispatcher(outbox, events.prefect)
    one.run_once()
    add(outbox, "b", dataset="linen")
    one.run_once()
    one.run_once()
    assert list(events.runs.values()) == ["linen"]


@pytest.mark.parametrize("status", [409, 422])
def test_a_batch_that_is_rejected_for_long_while_others_are_taken_is_a_dead_letter(
    outbox: UploadOutbox, events: EventsServer, status: int
) -> None:
    events.refuse = {"cloth": status}
    add(outbox, "a")
    one = dispatcher(outbox, events.prefect)
    for _ in range(REFUSALS):
        one.run_once()
    assert (only(outbox).refusals, only(outbox).dead) == (REFUSALS, False), "not for long"
    with outbox.database.writing() as connection:
        connection.execute(update(batches).values(refused=time.time() - PATIENCE - 1))
    one.run_once()
    assert not only(outbox).dead, "the server takes no others either"
    add(outbox, "b", dataset="linen")
    one.run_once()
    one.run_once()
    assert only(outbox).dead
    assert str(status) in only(outbox).reason
    before = len(events.paths)
    one.run_once()
    assert len(events.paths) == before
    events.refuse = {}
    outbox.batches.replay()
    one.run_once()
    assert sorted(events.runs.values()) == ["cloth", "linen"]


def test_the_thread_starts_runs_when_woken(outbox: UploadOutbox, events: EventsServer) -> None:
    one = dispatcher(outbox, events.prefect)
    one.start()
    for number in range(3):
        add(outbox, f"{number}")
        one.wake()
        wait_for(lambda count=number + 1: len(events.runs) == count, "a run")  # type: ignore[misc]
    one.stop()
    assert one.runs_started == 3


def test_the_thread_survives_a_database_that_is_away(
    events: EventsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    outbox = UploadOutbox(f"sqlite:///{tmp_path}/file/outbox.db")
    one = dispatcher(outbox, events.prefect)
    assert all(one._guarded_pass() <= module.LOOK_SECONDS for _ in range(3))
    assert [record.levelno for record in caplog.records] == [logging.ERROR], "logged once while it lasts"
    (tmp_path / "file").unlink()
    add(outbox, "a")
    one._guarded_pass()
    outbox.close()
    assert list(events.runs.values()) == ["cloth"]


def test_waits_grow_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORTEST_WAIT", 1.0)
    waits = {failures: max(module._wait(failures) for _ in range(300)) for failures in (0, 3, 9, 2000)}
    assert waits[0] <= 1 < waits[3] <= 8 < waits[9] <= 60
    assert waits[2000] <= 60
