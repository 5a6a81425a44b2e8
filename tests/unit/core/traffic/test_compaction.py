"""Compaction of the logs: one object an hour, and no line is missed, whoever reads and whatever is killed."""

import gzip
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.core.monitoring.log_cache import newest_lines, read_hours
from tasks.core.store import FolderStore, Store
from tasks.core.traffic import compaction
from tasks.core.traffic.compaction import compact
from tasks.core.traffic.feedback import Vote, read_votes, write_votes
from tasks.core.traffic.prompt_log import read_lines, write_lines
from tests.counting_store import CountingStore
from tests.shop import MODEL, NOW, ago, line
from tests.stopping_store import Stopped, StoppingStore

BEFORE = ago(1)
FILES = f"models/{MODEL}/drift/hours/"


def fill(store: Store, hours: int = 3, parts: int = 5) -> None:
    """Hours of prompts and votes, in several objects each; some lines are written twice."""
    for hour in range(1, hours + 1):
        for part in range(parts):
            lines = [line(hour + 0.55 + k / 100, f"{hour}-{part}-{k}") for k in (0, part)]
            write_lines(store, MODEL, lines)
            write_votes(store, MODEL, [vote(hour, f"{hour}-{part}", liked) for liked in (True, False)])


def vote(hour: float, name: str, liked: bool) -> Vote:
    return Vote(
        request_id=name, time=ago(hour + 0.6 - liked / 100), liked=liked, release="r", generation=1, session="s"
    )


def read(store: Store) -> tuple[list[str], list[tuple[str, bool]]]:
    """Everything in both logs."""
    votes = [(vote.request_id, vote.liked) for vote in read_votes(store, MODEL, ago(99), NOW)]
    return [one.request_id for one in read_lines(store, MODEL, ago(99), NOW)], votes


def keys(store: Store) -> list[str]:
    return [*store.list(f"prompts/{MODEL}/"), *store.list(f"feedback/{MODEL}/")]


def test_hours_that_are_over_become_one_object_each(folder: FolderStore) -> None:
    fill(folder)
    write_lines(folder, MODEL, [line(0.1), line(0.6)])
    write_lines(folder, MODEL, [line(0.2), line(0.7)])
    before = read(folder)
    done = compact(folder, MODEL, BEFORE)
    assert (done.hours, done.replaced, done.damaged, done.complete) == (6, 30, [], True)
    assert len(keys(folder)) == 6 + 4, "the hour that goes on, and the one that has just ended, stay as they are"
    assert read(folder) == before
    assert compact(folder, MODEL, BEFORE) == compaction.Compacted()


def test_a_late_line_is_compacted_the_next_time(folder: FolderStore) -> None:
    fill(folder, hours=1)
    compact(folder, MODEL, BEFORE)
    write_lines(folder, MODEL, [line(1.55, "late")])
    before = read(folder)
    assert compact(folder, MODEL, BEFORE).replaced == 2
    assert read(folder) == before
    assert "late" in before[0]
    (key, _) = keys(folder)
    assert "/merged-000002-" in key


def test_the_merged_object_sorts_behind_all_that_it_replaces(folder: FolderStore) -> None:
    names: list[str] = []
    for _ in range(12):
        write_lines(folder, MODEL, [line(1.55, f"{len(names)}-{k}") for k in range(3)])
        names += keys(folder)
        compact(folder, MODEL, BEFORE)
        if len(names) > 1:
            assert max(names) < keys(folder)[0]


def test_lines_are_copied_as_they_were_written(folder: FolderStore) -> None:
    """Also those of a later version, which this one cannot read."""
    place = f"prompts/{MODEL}/{ago(1.55):dt=%Y-%m-%d/hour=%H}/"
    later = {"schema_version": 9, "request_id": "a", "time": f"{ago(1.55).isoformat()}", "prompt": "a\u2028b", "new": 1}
    folder.write(f"{place}a.jsonl.gz", gzip.compress((json.dumps(later) + "\n").encode()))
    write_lines(folder, MODEL, [line(1.56, "b")])
    compact(folder, MODEL, BEFORE)
    (key,) = keys(folder)
    texts = gzip.decompress(folder.read(key)).decode().split("\n")
    assert json.dumps(later) in texts


@pytest.mark.parametrize(
    "data", [b"no gzip", gzip.compress(b"no JSON\n"), gzip.compress(b"{}\n"), gzip.compress(b"[]\n")]
)
def test_damaged_objects_stay_and_are_named(folder: FolderStore, data: bytes) -> None:
    fill(folder, hours=1)
    damaged = f"{keys(folder)[0].rpartition('/')[0]}/damaged.jsonl.gz"
    before = read(folder)
    folder.write(damaged, data)
    for _ in range(2):
        assert compact(folder, MODEL, BEFORE).damaged == [damaged]
        assert folder.read(damaged) == data
    folder.delete(damaged)
    assert read(folder) == before


def test_work_is_bounded_and_goes_on_where_it_ended(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MOST_OBJECTS", 7)
    fill(folder, parts=10)
    before, calls = read(folder), 0
    while not compact(folder, MODEL, BEFORE).complete:
        calls += 1
        assert calls < 20
        assert read(folder) == before
    assert calls > 4
    assert compact(folder, MODEL, BEFORE).replaced == 0
    assert len(keys(folder)) == 6


def test_hours_before_the_period_are_left_unless_asked_for(folder: FolderStore) -> None:
    for name in "ab":
        write_lines(folder, MODEL, [line(24 * 40, name)])
    assert compact(folder, MODEL, BEFORE).hours == 0
    assert compact(folder, MODEL, BEFORE, ago(24 * 50)).hours == 1


@pytest.mark.parametrize("number", range(1, 26))
def test_killed_at_any_change_it_loses_and_repeats_no_line(tmp_path: Path, number: int) -> None:
    store = StoppingStore(tmp_path / "store")
    fill(store, hours=2)
    before = read(store)
    store.stop_at = store.changes + number
    for _ in range(2):
        try:
            compact(store, MODEL, BEFORE)
        except Stopped:
            assert read(store) == before
    assert store.changes - store.stop_at + number >= 24
    assert read(store) == before
    assert len(keys(store)) == 4


def test_several_at_once_lose_no_line(folder: FolderStore) -> None:
    for _ in range(5):
        fill(folder, hours=2, parts=8)
        before = read(folder)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: compact(folder, MODEL, BEFORE), range(4)))
        assert read(folder) == before
        compact(folder, MODEL, BEFORE)
        assert len(keys(folder)) == 4


def test_readers_miss_no_line_meanwhile(folder: FolderStore) -> None:
    """One thread writes late lines and compacts, others read as storefront and monitor do."""
    written, ended = 0, threading.Event()

    def write() -> None:
        nonlocal written
        rng = random.Random(1)
        for number in range(60):
            write_lines(folder, MODEL, [line(1.55 + rng.random() / 10, f"{number:03d}")])
            written = number + 1
            if number % 3 == 0:
                compact(folder, MODEL, BEFORE)
        ended.set()

    def watch(look: int) -> int:
        count = 0
        while not ended.is_set():
            least = written
            if look == 0:
                found = [one.request_id for one in read_lines(folder, MODEL, ago(9), NOW)]
            elif look == 1:
                found = [one.request_id for hour in read_hours(folder, MODEL, ago(9), NOW) for one in hour.lines]
            else:
                found = [one.request_id for one in newest_lines(folder, MODEL, ago(9), NOW, 999)]
            assert {f"{number:03d}" for number in range(least)} <= set(found)
            assert len(found) == len(set(found))
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(watch, look) for look in range(3)]
        write()
        assert min(look.result() for look in looks) > 0


def test_the_monitors_hours_are_read_once_more(tmp_path: Path) -> None:
    store = CountingStore(FolderStore(tmp_path / "store"))
    fill(store)
    first = read_hours(store, MODEL, ago(24), NOW)
    compact(store, MODEL, BEFORE)
    store.forget()
    assert read_hours(store, MODEL, ago(24), NOW) == first
    assert len([key for key in store.keys["read"] if key.startswith("prompts/")]) == len(first) == 3
    store.forget()
    assert read_hours(store, MODEL, ago(24), NOW) == first
    assert all(key.startswith(FILES) for key in store.keys["read"])
    assert store.keys["write"] == []


def test_an_hour_is_compacted_on_the_end_of_its_time(folder: FolderStore) -> None:
    for name in "ab":
        write_lines(folder, MODEL, [line(1.4, name)])
    end = (ago(1.4) + timedelta(hours=1)).replace(minute=0)
    assert compact(folder, MODEL, end - timedelta(seconds=1)).hours == 0
    assert compact(folder, MODEL, end).hours == 1
