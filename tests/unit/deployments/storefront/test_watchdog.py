"""The storefront's watchdog: votes count once per picture, and each generation emits at most one event."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.storefront.errors import PictureUnknown
from deployments.storefront.feedback import Feedback, ServedPicture
from deployments.storefront.watchdog import RollbackWatchdog
from tasks.core import clock
from tasks.core.config.presets import Preset, RollbackSpec
from tasks.core.events import Unhealthy
from tasks.core.registry.channel import flip
from tasks.core.registry.ledger import Entry, append
from tasks.core.store import FolderStore
from tasks.core.traffic.feedback import Vote, last_words, read_votes, write_votes
from tests.adire import adire, installed
from tests.events_server import EventsServer
from tests.logging_process import writers

MODEL, SPEC = "adire", RollbackSpec(check_seconds=0.05)
BAD = Unhealthy(generation=2, release="release-2", kind="health", reason="it draws black")


def serve(store: FolderStore, generation: int, release: str = "", restores: int = 0) -> None:
    entry = Entry(
        generation=generation,
        action="roll_back" if restores else "promote",
        release=release or f"release-{generation}",
        dataset_version="v",
        restores=restores,
        actor="gate",
        reason="better",
        time=clock.now() - timedelta(days=10 - generation),
    )
    append(store, MODEL, entry)
    flip(store, MODEL, entry)


def cast(take: Callable[[Vote], None], generation: int, count: int, disliked: int, start: int = 0) -> None:
    """A number of sessions vote on a generation's pictures; the dislikes are spread evenly."""
    for i in range(count):
        vote = Vote(
            request_id=f"{generation}-{start + i}",
            time=clock.now() - timedelta(days=8 - generation) + timedelta(seconds=start + i),
            liked=(i + 1) * disliked // count == i * disliked // count,
            release=f"release-{generation}",
            generation=generation,
            session=f"s{start + i}",
        )
        take(vote)


def watchdog_of(store: FolderStore) -> RollbackWatchdog:
    return RollbackWatchdog(installed(store), adire(preset=Preset(rollback=SPEC)))


def check(watchdog: RollbackWatchdog) -> None:
    """One iteration of the thread."""
    watchdog.check_votes()
    watchdog.send_reports()


@pytest.fixture
def two(folder: FolderStore) -> FolderStore:
    """Generation 2 is served after generation 1."""
    serve(folder, 1)
    serve(folder, 2)
    return folder


def test_disliked_generation_is_reported_once(two: FolderStore, events: EventsServer) -> None:
    watchdog = watchdog_of(two)
    cast(watchdog.add, 1, 50, 5)
    cast(watchdog.add, 2, 25, 20)
    for _ in range(3):
        check(watchdog)
    (event,) = events.events
    assert event["event"] == "dyeworks.champion.unhealthy"
    assert (event["payload"]["generation"], event["payload"]["kind"]) == (2, "feedback")
    assert event["payload"]["release"] == "release-2"
    assert "20 of 25 sessions disliked its pictures, 5 of 50" in event["payload"]["reason"]
    assert watchdog.problem == event["payload"]["reason"]
    cast(watchdog.add, 2, 100, 100, start=25)
    check(watchdog)
    check(watchdog_of(two))
    assert len(events.events) == 1


def test_equally_liked_generation_is_not_reported(two: FolderStore, events: EventsServer) -> None:
    watchdog = watchdog_of(two)
    cast(watchdog.add, 1, 50, 10)
    cast(watchdog.add, 2, 60, 14)
    check(watchdog)
    assert (events.events, watchdog.problem) == ([], "")


def test_stored_votes_count_after_a_restart(two: FolderStore, events: EventsServer) -> None:
    stored: list[Vote] = []
    cast(stored.append, 1, 50, 5)
    cast(stored.append, 2, 20, 15)
    write_votes(two, MODEL, stored)
    watchdog = watchdog_of(two)
    for vote in stored[-5:]:  # in memory and in the store: once
        watchdog.add(vote)
    check(watchdog)
    assert (events.events, len(watchdog.votes)) == ([], 70)
    cast(watchdog.add, 2, 5, 5, start=20)
    check(watchdog)
    assert [e["payload"]["generation"] for e in events.events] == [2]


def test_votes_on_older_generations_are_dropped(two: FolderStore) -> None:
    watchdog = watchdog_of(two)
    cast(watchdog.add, 1, 3, 0)
    cast(watchdog.add, 2, 4, 0)
    check(watchdog)
    serve(two, 3)
    check(watchdog)
    assert {v.generation for v in watchdog.votes} == {2}


def test_generation_is_compared_only_with_the_previous_release(two: FolderStore, events: EventsServer) -> None:
    serve(two, 3)
    watchdog = watchdog_of(two)
    watchdog.check_votes()
    cast(watchdog.add, 1, 50, 50, start=100)  # late ones
    cast(watchdog.add, 2, 50, 5)
    cast(watchdog.add, 3, 25, 20)
    check(watchdog)
    (event,) = events.events
    assert "20 of 25 sessions disliked its pictures, 5 of 50 those of the one before" in event["payload"]["reason"]


def test_rolled_back_generation_is_not_tested_again(two: FolderStore, events: EventsServer) -> None:
    serve(two, 3, release="release-1", restores=1)
    watchdog = watchdog_of(two)
    cast(watchdog.add, 2, 50, 0)
    cast(watchdog.add, 3, 50, 50)
    check(watchdog)
    assert events.events == []


def test_next_generation_is_tested_independently(two: FolderStore, events: EventsServer) -> None:
    watchdog = watchdog_of(two)
    cast(watchdog.add, 1, 50, 5)
    cast(watchdog.add, 2, 25, 25)
    check(watchdog)
    serve(two, 3, release="release-1", restores=1)
    check(watchdog)
    assert watchdog.problem == ""
    serve(two, 4)
    cast(watchdog.add, 4, 25, 25)
    check(watchdog)
    assert [e["payload"]["generation"] for e in events.events] == [2, 4]


def test_report_of_the_engine_is_sent_once_by_the_thread(two: FolderStore, events: EventsServer) -> None:
    for _ in range(2):  # a restart
        watchdog = watchdog_of(two)
        watchdog.start()
        watchdog.report(BAD)
        deadline = time.monotonic() + 30
        while not watchdog.queued and time.monotonic() < deadline:
            time.sleep(0.01)
        watchdog.stop()
    assert [e["payload"] for e in events.events] == [{"model": "adire"} | BAD.model_dump(mode="json")]
    assert len(list(two.list("events/"))) == 1


def test_event_stays_in_the_outbox_until_a_server_is_available(two: FolderStore, events: EventsServer) -> None:
    events.status = 502
    first = watchdog_of(two)
    first.report(BAD)
    check(first)
    assert len(list(two.list("outbox/"))) == 1
    second = watchdog_of(two)
    second.report(BAD.model_copy(update={"reason": "again"}))
    check(second)
    assert len(list(two.list("outbox/"))) == 1
    events.status = 204
    check(second)
    assert list(two.list("outbox/")) == []
    assert [e["payload"]["reason"] for e in events.events] == ["it draws black"]


def test_unreadable_votes_do_not_delay_reports_of_the_engine(two: FolderStore, events: EventsServer) -> None:
    two.write(f"feedback/{MODEL}/dt={clock.now():%Y-%m-%d}/hour=00/damaged.jsonl.gz", b"damaged")
    watchdog = watchdog_of(two)
    watchdog.report(BAD)
    watchdog.start()
    deadline = time.monotonic() + 30
    while not events.events and time.monotonic() < deadline:
        time.sleep(0.01)
    watchdog.stop()
    assert [e["payload"]["generation"] for e in events.events] == [2]
    assert watchdog.channel is None


def test_vote_counts_for_the_session_of_the_picture(folder: FolderStore, tmp_path: Path) -> None:
    taken: list[Vote] = []
    writer = writers(folder, tmp_path / "spool", 60)[1]
    feedback = Feedback("adire", 2, taken.append, writer.add)
    feedback.remember("a", ServedPicture("release-1", 1, "ada"))
    before = datetime.now(UTC)
    feedback.vote("a", False)
    feedback.vote("a", True)
    assert [(v.liked, v.session, v.release, v.generation) for v in taken] == [
        (False, "ada", "release-1", 1),
        (True, "ada", "release-1", 1),
    ]
    writer.start()
    writer.stop()
    stored = read_votes(folder, MODEL, before, datetime.now(UTC))
    assert stored == taken
    assert [v.liked for v in last_words(stored)] == [True]


def test_only_the_newest_pictures_accept_votes() -> None:
    feedback = Feedback("adire", 2)
    for name in "abc":
        feedback.remember(name, ServedPicture("", 0, "s"))
    feedback.vote("b", True)
    for unknown in ("a", "z"):
        with pytest.raises(PictureUnknown, match=f"picture '{unknown}' is unknown or too old"):
            feedback.vote(unknown, True)
    assert len(feedback.pictures) == 2


def test_number_of_held_votes_is_limited(two: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.storefront.watchdog.MOST", 30)
    watchdog = watchdog_of(two)
    cast(watchdog.add, 1, 40, 0)  # the queue takes the first thirty
    check(watchdog)
    for start in range(0, 90, 30):
        cast(watchdog.add, 2, 30, 0, start=start)
        check(watchdog)
    check(watchdog)
    assert [v.request_id for v in watchdog.votes] == [f"1-{i}" for i in range(30)] + [f"2-{i}" for i in range(30)]


def test_broken_settings_of_prefect_neither_stop_the_watchdog_nor_lose_its_event(
    two: FolderStore, events: EventsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "profiles.toml").write_text("[profiles")
    watchdog = watchdog_of(two)
    watchdog.report(BAD)
    check(watchdog)
    assert f"{tmp_path}/profiles.toml: cannot be read" in caplog.text
    assert len(list(two.list("outbox/"))) == 1
    (tmp_path / "profiles.toml").write_text("")
    check(watchdog)
    assert [e["payload"]["generation"] for e in events.events] == [2]
