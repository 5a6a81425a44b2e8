"""The newest checks in one object: bounded, complete after any crash, made of the records where it is lost."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.core import clock
from tasks.core.monitoring.records import (
    MOST_RECENT,
    DriftRecord,
    read_records,
    recent_key,
    recent_records,
    report_key,
    without_prompts,
    write_record,
)
from tasks.core.store import FolderStore, Store
from tasks.core.store.documents import render
from tests.counting_store import CountingStore
from tests.ring_store import record
from tests.shop import MODEL, NOW, ago
from tests.stopping_store import Stopped, StoppingStore

KEY = recent_key(MODEL)


@pytest.fixture(autouse=True)
def fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


def check(hours: float) -> DriftRecord:
    """The record of a check so many hours ago."""
    time = ago(hours)
    return record().model_copy(update={"key": report_key(MODEL, time), "time": time, "fresh": ("moons",)})


def put(store: Store, *hours: float) -> None:
    """Records without an entry among the newest ones."""
    for each in map(check, hours):
        store.write(each.key, render(each))


def test_the_newest_checks_are_all_records_without_their_prompts(folder: FolderStore) -> None:
    for hours in (3, 1, 2):
        write_record(folder, check(hours))
    assert recent_records(folder, MODEL) == [without_prompts(each) for each in read_records(folder, MODEL)]
    assert [each.time for each in recent_records(folder, MODEL)] == [ago(3), ago(2), ago(1)]
    assert b"moon" not in folder.read(KEY)


def test_a_check_costs_the_same_however_many_are_behind_it(folder: FolderStore) -> None:
    put(folder, *range(1, 1500))
    assert len(recent_records(folder, MODEL)) == MOST_RECENT
    write_record(folder, check(0.5))
    counting = CountingStore(folder)
    write_record(counting, check(0.4))
    assert len(recent_records(counting, MODEL)) == MOST_RECENT
    assert sum(counting.requests.values()) == 5
    assert len(json.loads(folder.read(KEY))["checks"]) == MOST_RECENT


def test_the_same_check_counts_once(folder: FolderStore) -> None:
    for _ in range(2):
        write_record(folder, check(1))
    assert len(recent_records(folder, MODEL)) == 1


def test_a_record_whose_writer_was_killed_is_among_the_newest(tmp_path: Path) -> None:
    store = StoppingStore(tmp_path / "store")
    write_record(store, check(3))
    for stop in (1, 2):
        store.stop_at = store.changes + stop
        with pytest.raises(Stopped):
            write_record(store, check(3 - stop))
    assert [each.time for each in recent_records(store, MODEL)] == [ago(3)]
    write_record(store, check(0.5))
    assert [each.time for each in recent_records(store, MODEL)] == [ago(3), ago(1), ago(0.5)]


@pytest.mark.parametrize("data", [b"", b"no JSON", b"{}", b'{"schema_version": 9, "checks": []}'])
@pytest.mark.parametrize("oldest", [24 * 5, 24 * 50, 24 * 500, 24 * 5000])
def test_a_damaged_object_is_made_again_of_the_records(folder: FolderStore, data: bytes, oldest: int) -> None:
    hours = [oldest - k / 10 for k in range(3)]
    put(folder, *hours)
    folder.write(KEY, data)
    assert [each.time for each in recent_records(folder, MODEL)] == [*map(ago, hours)]
    write_record(folder, check(1))
    counting = CountingStore(folder)
    assert len(recent_records(counting, MODEL)) == 4
    assert sum(counting.requests.values()) == 1


def test_a_few_old_checks_and_none_for_long_are_found(folder: FolderStore) -> None:
    assert recent_records(folder, MODEL) == []
    put(folder, 24 * 3000, 1)
    assert [each.time for each in recent_records(folder, MODEL)] == [ago(24 * 3000), ago(1)]


def test_concurrent_checks_are_all_among_the_newest(folder: FolderStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda hours: write_record(folder, check(hours)), range(20, 0, -1)))
    assert len(json.loads(folder.read(KEY))["checks"]) == 20
