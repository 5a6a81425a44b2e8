"""Batches on SQLite and on a real Postgres: each object is in one, old rows are deleted."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update

from deployments.gateway.batches import FAR_SECONDS, KEPT_SECONDS, BatchUnknown, Burst, UploadBatch, UploadBatches
from deployments.gateway.database import arrivals, batches
from deployments.gateway.outbox import Arrival, UploadOutbox


@pytest.fixture
def outbox(outbox_url: str) -> Iterator[UploadOutbox]:
    opened = UploadOutbox(outbox_url)
    yield opened
    opened.close()


def add(outbox: UploadOutbox, *names: str, dataset: str = "cloth", ready: bool = False) -> list[bool]:
    found = [Arrival(dataset, name, f"{dataset}/{name}", ready=ready) for name in names]
    return asyncio.run(outbox.add(found))


def made(outbox: UploadOutbox, *names: str, dataset: str = "cloth") -> UploadBatch:
    add(outbox, *names, dataset=dataset)
    batch = outbox.batches.make(dataset)
    assert batch
    return batch


def test_a_burst_is_what_is_in_no_batch(outbox: UploadOutbox) -> None:
    assert outbox.batches.bursts() == []
    before = time.time()
    add(outbox, "a", "b")
    add(outbox, "_READY", dataset="linen", ready=True)
    cloth, linen = sorted(outbox.batches.bursts())
    assert (cloth.dataset, cloth.objects, cloth.ready) == ("cloth", 2, False)
    assert (linen.dataset, linen.objects, linen.ready) == ("linen", 1, True)
    assert before <= cloth.first <= cloth.last <= time.time()
    assert outbox.batches.make("cloth")
    assert outbox.batches.bursts() == [linen]


@pytest.mark.parametrize(
    ("first", "last", "ready", "end"),
    [
        (100.0, 100.0, False, 110.0),
        (100.0, 105.0, False, 115.0),
        (100.0, 119.0, False, 120.0),
        (100.0, 105.0, True, 106.0),
        (5000.0, 5000.0, False, 106.0),  # of a clock that was set back
    ],
)
def test_a_burst_ends(first: float, last: float, ready: bool, end: float) -> None:
    assert Burst("cloth", 2, first, last, ready).end(quiet=10, longest=20, now=106.0) == end


def test_a_batch_takes_all_that_waits(outbox: UploadOutbox) -> None:
    first, second = made(outbox, "a", "b"), made(outbox, "b", "c")
    assert (first.objects, second.objects) == (2, 1)
    assert first.key != second.key
    assert outbox.batches.make("cloth") is None
    assert outbox.batches.unsent() == [first, second]


def test_each_object_is_in_one_batch_of_several_gateways(outbox_url: str) -> None:
    gateways = [UploadOutbox(outbox_url) for _ in range(3)]
    with ThreadPoolExecutor(len(gateways)) as threads:
        for number in range(10):
            add(gateways[0], *(f"{number}-{name}" for name in range(20)))
            found = [batch for batch in threads.map(_make, gateways) if batch]
            assert sum(batch.objects for batch in found) == 20
    with gateways[0].database.reading() as connection:
        counted = connection.execute(select(arrivals.c.batch, func.count()).group_by(arrivals.c.batch)).all()
    assert {batch.id: batch.objects for batch in gateways[0].batches.unsent()} == dict(map(tuple, counted))
    for one in gateways:
        one.close()


def _make(outbox: UploadOutbox) -> UploadBatch | None:
    return outbox.batches.make("cloth")


def test_due_are_those_that_wait(outbox: UploadOutbox) -> None:
    sent, refused, dead, late, early = (made(outbox, name) for name in "abcde")
    found, now = outbox.batches, time.time()
    found.record_run(sent, "run-1")
    found.record_refusal(refused, "409", -1, dead=False)
    found.record_refusal(dead, "409", -1, dead=True)
    found.postpone(late, 50)
    assert [batch.id for batch in found.due(now)] == [early.id, refused.id]
    assert [batch.id for batch in found.due(now + 60)] == [early.id, late.id, refused.id]
    assert found.next_due() == pytest.approx(now - 1, abs=5)


def test_a_clock_that_was_set_back_delays_no_batch(outbox: UploadOutbox) -> None:
    batch = made(outbox, "a")
    assert outbox.batches.due(batch.due - FAR_SECONDS - 1) == [batch]
    assert outbox.batches.due(batch.due - 1) == []


def test_what_was_recorded_is_read(outbox: UploadOutbox) -> None:
    batch, found = made(outbox, "a"), outbox.batches
    found.record_refusal(batch, "no" * 1000, 5, dead=False)
    (refused,) = found.unsent()
    assert (refused.refusals, refused.reason, refused.dead) == (1, "no" * 250, False)
    found.record_refusal(refused, "again", 5, dead=True)
    (dead,) = found.unsent()
    assert (dead.refusals, dead.refused, dead.dead) == (2, refused.refused, True)
    other = made(outbox, "b")
    assert not found.any_sent_since(0)
    found.record_run(other, "run-1")
    assert found.any_sent_since(batch.created)
    assert not found.any_sent_since(time.time() + 1)
    assert found.unsent() == [dead]


def test_dead_letters_are_replayed(outbox: UploadOutbox) -> None:
    found = outbox.batches
    first, second, waiting = (made(outbox, name) for name in "abc")
    for batch in (first, second):
        found.record_refusal(batch, "409", 60, dead=True)
    with pytest.raises(BatchUnknown, match=f"{waiting.id}; see `dyeworks outbox list --dead`"):
        found.replay([first.id, waiting.id])
    assert [batch.id for batch in found.replay([second.id])] == [second.id]
    assert [(one.id, one.dead, one.refusals) for one in found.unsent()] == [
        (first.id, True, 1),
        (second.id, False, 0),
        (waiting.id, False, 0),
    ]
    assert [batch.id for batch in found.replay()] == [first.id]
    assert len(found.due(time.time())) == 3
    assert found.replay() == []


def test_the_state_counts_what_waits(outbox: UploadOutbox) -> None:
    found: UploadBatches = outbox.batches
    assert found.state() == (0, 0, 0, 0.0)
    sent, dead, _ = (made(outbox, *names) for names in ("ab", "c", "def"))
    found.record_run(sent, "run-1")
    found.record_refusal(dead, "409", 60, dead=True)
    add(outbox, "g")
    objects, open_batches, letters, oldest = found.state()
    assert (objects, open_batches, letters) == (4, 1, 1)
    assert 0 < oldest < 60


def test_old_rows_are_deleted_after_their_batch_was_sent(outbox: UploadOutbox) -> None:
    old, young, unsent = (made(outbox, *names) for names in ("ab", "c", "d"))
    for batch in (old, young):
        outbox.batches.record_run(batch, "run")
    with outbox.database.writing() as connection:
        long_ago = time.time() - KEPT_SECONDS - 60
        connection.execute(update(batches).where(batches.c.id.in_([old.id, unsent.id])).values(created=long_ago))
        connection.execute(update(batches).where(batches.c.id == old.id).values(sent=long_ago))
    assert outbox.batches.delete_old() == 1
    assert outbox.batches.delete_old() == 0
    assert add(outbox, "a", "b", "c", "d") == [True, True, False, False]
