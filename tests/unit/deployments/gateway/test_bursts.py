"""Bursts of notifications: one event each, none lost, whatever is delivered again or killed."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from deployments.gateway import bursts
from deployments.gateway.bursts import Burst, Gatherer
from deployments.gateway.inbox import PENDING, READY, SEEN, Inbox
from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import remarks
from tasks.core.data.ingest import ingest
from tasks.core.errors import StoreUnusable
from tasks.core.store import FolderStore
from tests.events_server import EventsServer
from tests.gateway_process import gateway
from tests.odd_pictures import encoded, noise
from tests.unit.deployments.gateway.senders import (
    TOKEN,
    datasets,
    notification,
    opened,
    post,
    queued,
    wait_for,
)

COUNT = 1000
NEVER = {"upload_quiet_seconds": "3600", "upload_longest_seconds": "3600"}
AT_ONCE = {"upload_quiet_seconds": "0.01"}


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)


@pytest.fixture
def patient(events: EventsServer, token: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of webhooks that wait for a `_READY`."""
    for name, value in NEVER.items():
        monkeypatch.setenv(f"DYEWORKS_{name.upper()}", value)


@pytest.mark.parametrize(
    ("burst", "end"),
    [
        (Burst(0, 0, {"a"}), 10),
        (Burst(0, 55, {"a", "b"}), 65),
        (Burst(0, 115, {"a", "b"}), 120),
        (Burst(5, 60, {"a", f"{READY}b"}), 5),
    ],
)
def test_a_burst_ends_when_it_is_quiet_or_long_or_ready(burst: Burst, end: float) -> None:
    assert burst.end(quiet=10, longest=120) == end


def test_only_new_notifications_prolong_a_burst() -> None:
    burst = Burst(0, 0)
    assert (burst.add({"a"}, 3), burst.last) == (True, 3)
    assert (burst.add({"a"}, 7), burst.last) == (False, 3)
    assert (burst.add({"a", "b"}, 9), burst.last) == (True, 9)
    assert burst.first == 0


@pytest.mark.usefixtures("patient")
def test_a_thousand_notifications_delivered_three_times_over_a_kill_are_one_ingest(
    events: EventsServer, folder: FolderStore, tmp_path: Path
) -> None:
    names = [f"{number:03}.png" for number in range(COUNT)]
    bodies = [notification(f"uploads/cloth/{name}") for name in names]
    for number, name in enumerate(names):
        path = tmp_path / "store/uploads/cloth" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(noise(number, 32, 32)))
    with ThreadPoolExecutor(4) as pool, gateway() as first:
        assert sum(pool.map(first.post, bodies[: COUNT // 2])) == COUNT // 2
        assert sum(pool.map(first.post, bodies[: COUNT // 2])) == 0
        first.kill()
        with gateway() as second:
            assert sum(pool.map(second.post, bodies)) == COUNT - COUNT // 2
            assert events.events == []
            folder.write("uploads/cloth/_READY", b"")
            assert second.post(notification("uploads/cloth/_READY")) == 0
            assert datasets(events, 1) == ["cloth"]
            assert sum(pool.map(second.post, bodies)) == 0, "hours later"
            second.kill()
        with gateway(**AT_ONCE) as third:
            assert sum(pool.map(third.post, bodies)) == 0, "after a restart"
            assert queued(folder) == ["cloth"]
    assert events.events[0]["payload"]["reason"] == f"{COUNT} objects were uploaded"
    manifest, refusals = ingest(folder, "cloth", IngestSpec())
    assert (len(manifest.items), refusals) == (COUNT, ())
    assert not any("other kinds" in line or "_READY" in line for line in remarks(folder, manifest))


@pytest.mark.usefixtures("patient")
def test_a_notification_that_was_answered_before_a_kill_becomes_an_event_after_it(
    events: EventsServer, folder: FolderStore
) -> None:
    with gateway() as first:
        assert first.post(notification("uploads/cloth/a.png")) == 1
        first.kill()
    assert events.events == []
    with gateway(**AT_ONCE):
        assert datasets(events, 1) == ["cloth"]
        assert queued(folder) == ["cloth"]


@pytest.mark.usefixtures("patient")
def test_ready_ends_the_wait_of_its_own_dataset(events: EventsServer, folder: FolderStore) -> None:
    with opened() as client:
        post(client, notification("uploads/cloth/a.png", "uploads/batik/a.png"))
        assert post(client, notification("uploads/cloth/2026/_READY")) == (202, {"new": 0, "records": 1})
        assert datasets(events, 1) == ["cloth"]
        assert post(client, notification("uploads/cloth/2026/_READY")) == (202, {"new": 0, "records": 1})
        wait_for(lambda: list(Inbox(folder).pending()) == ["batik"], "the end of one burst")
        post(client, notification("uploads/batik/_READY"))
        assert datasets(events, 2) == ["batik", "cloth"]


def test_others_end_the_wait_when_it_is_long(
    events: EventsServer, token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYEWORKS_UPLOAD_QUIET_SECONDS", "3600")
    monkeypatch.setenv("DYEWORKS_UPLOAD_LONGEST_SECONDS", "0.2")
    with opened() as client:
        post(client, notification("uploads/cloth/a.png"))
        assert datasets(events, 1) == ["cloth"]


def test_what_version_0_2_0_has_seen_starts_nothing(client: TestClient, folder: FolderStore) -> None:
    body = notification("uploads/cloth/a.png")
    assert post(client, body)[1]["new"] == 1
    assert queued(folder) == ["cloth"]
    (key,) = folder.list(SEEN)
    folder.delete(key)
    folder.write(f"notifications/{key.removeprefix(SEEN)}", b"")
    assert post(client, body)[1]["new"] == 0
    assert list(folder.list(PENDING)) == []


@pytest.mark.usefixtures("patient")
def test_of_two_webhooks_on_a_store_one_ends_the_burst_of_both(events: EventsServer, folder: FolderStore) -> None:
    with opened() as one, opened() as other:
        assert post(one, notification("uploads/cloth/a.png"))[1]["new"] == 1
        assert post(other, notification("uploads/cloth/b.png"))[1]["new"] == 1
        assert post(other, notification("uploads/cloth/a.png"))[1]["new"] == 0
        post(one, notification("uploads/cloth/_READY"))
        assert datasets(events, 1) == ["cloth"]
        assert queued(folder) == ["cloth"]
        assert len(list(folder.list(SEEN))) == 3


async def run_until(gatherer: Gatherer, inbox: Inbox, dataset: str) -> None:
    running = asyncio.create_task(gatherer.run())
    while inbox.pending()[dataset]:
        await asyncio.sleep(0.005)
    running.cancel()


def test_what_another_webhook_has_taken_meanwhile_prolongs_a_burst(folder: FolderStore) -> None:
    inbox, looks = Inbox(folder), list[int]()

    class Busy(Inbox):
        """At each of the first looks at it another webhook has just taken one more."""

        def pending(self, dataset: str = "") -> dict[str, set[str]]:
            if dataset and len(looks) < 3:
                looks.append(len(inbox.pending()[dataset]))
                inbox.add(dataset, f"other-{len(looks)}", ready=False)
            return super().pending(dataset)

    name = inbox.add("cloth", "own", ready=False)
    gatherer = Gatherer(lambda: Busy(folder), 0.01, 3600, wake=lambda: None)
    gatherer.arrived("cloth", [name])
    asyncio.run(run_until(gatherer, inbox, "cloth"))
    assert looks == [1, 2, 3]
    assert queued(folder) == ["cloth"]


def test_notifications_wait_for_a_store_that_fails(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bursts, "RETRY_SECONDS", 0.01)
    inbox, faults = Inbox(folder), [StoreUnusable(folder.url, "is away")] * 3

    def opened_inbox() -> Inbox:
        if faults:
            raise faults.pop()
        return inbox

    inbox.add("cloth", "a", ready=False)
    asyncio.run(run_until(Gatherer(opened_inbox, 0.01, 3600, wake=lambda: None), inbox, "cloth"))
    assert faults == []
    assert queued(folder) == ["cloth"]
