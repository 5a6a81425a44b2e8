"""The prompt log by hours: read once, then as one object an hour, always consistent with the log."""

import gzip
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.core.monitoring.log_cache import Hour, forget_hours, newest_lines, read_hours
from tasks.core.store import FolderStore, S3Store, Store
from tasks.core.traffic.prompt_log import read_lines, write_lines
from tests import counting_store
from tests.counting_store import CountingStore
from tests.s3_server import connect
from tests.shop import MODEL, NOW, ago, line

LOG, FILES = f"prompts/{MODEL}/", f"models/{MODEL}/drift/hours/"


@pytest.fixture
def shop(tmp_path: Path) -> CountingStore:
    return CountingStore(FolderStore(tmp_path / "store"))


def names(hours: list[Hour]) -> list[str]:
    return [found.request_id for hour in hours for found in hour.lines]


def read(store: Store, first: float, last: float = 0) -> list[str]:
    """The requests between two ages in hours."""
    return names(read_hours(store, MODEL, ago(first), ago(last)))


def log_keys(store: Store) -> list[str]:
    return list(store.list(LOG))


def test_the_hours_hold_what_the_log_holds(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(h / 7) for h in range(100)])
    hours = read_hours(shop, MODEL, ago(10), NOW)
    assert [found for hour in hours for found in hour.lines] == read_lines(shop, MODEL, ago(10), NOW)
    assert [hour.start for hour in hours] == sorted({hour.start for hour in hours})


def test_a_line_that_was_written_twice_counts_once(shop: CountingStore) -> None:
    for _ in range(2):
        write_lines(shop, MODEL, [line(2), line(1)])
        assert read(shop, 24) == ["at-2", "at-1"]


def test_a_request_counts_once_however_many_pictures_and_retries(shop: CountingStore) -> None:
    """A retry counts if what it repeats was refused, and so is not in the log."""
    lines = [
        line(1.4, "first", "rings", "ada"),
        line(1.4, "first-1", "rings", "ada").model_copy(update={"picture": 1}),
        line(1.3, "again", "rings", "ada").model_copy(update={"retry": 1}),
        line(1.2, "refused before", "dots", "ada").model_copy(update={"retry": 2}),
        line(1.1, "wants another", "rings", "ada"),
    ]
    write_lines(shop, MODEL, lines[:2])
    assert names(read_hours(shop, MODEL, ago(24), NOW)) == ["first"]
    write_lines(shop, MODEL, lines[2:])
    assert names(read_hours(shop, MODEL, ago(24), NOW)) == ["first", "refused before", "wants another"]
    assert len(read_lines(shop, MODEL, ago(24), NOW)) == 5, "the log has all"


def test_an_hour_is_in_the_order_of_time_whatever_was_written_first(shop: CountingStore) -> None:
    for hours in (1.1, 1.3, 1.2):
        write_lines(shop, MODEL, [line(hours)])
    assert read(shop, 24) == ["at-1.3", "at-1.2", "at-1.1"]


def test_a_late_line_of_an_old_hour_is_in_the_next_check(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(20), line(1)])
    before = read_hours(shop, MODEL, ago(24), NOW)
    write_lines(shop, MODEL, [line(20.1)])
    after = read_hours(shop, MODEL, ago(24), NOW)
    assert names(after) == ["at-20.1", "at-20", "at-1"]
    assert [a.identity == b.identity for a, b in zip(before, after, strict=True)] == [False, True]


def test_a_second_read_reads_one_object_an_hour(shop: CountingStore) -> None:
    for k in range(1, 41):
        write_lines(shop, MODEL, [line(k / 10)])
    first = read_hours(shop, MODEL, ago(24), NOW)
    assert len([key for key in shop.keys["read"] if key.startswith(LOG)]) == 40
    shop.forget()
    assert read_hours(shop, MODEL, ago(24), NOW) == first
    assert len(shop.keys["read"]) == len(first) == 5
    assert all(key.startswith(FILES) for key in shop.keys["read"])
    assert shop.keys["write"] == []


def test_a_late_line_reads_itself_and_its_hour(shop: CountingStore) -> None:
    for k in range(1, 41):
        write_lines(shop, MODEL, [line(k / 10)])
    read(shop, 24)
    write_lines(shop, MODEL, [line(3.05)])
    shop.forget()
    assert len(read(shop, 24)) == 41
    assert len([key for key in shop.keys["read"] if key.startswith(LOG)]) == 1
    assert len(shop.keys["write"]) == 1


def test_lines_deleted_from_the_log_are_deleted_from_the_cache(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(1.2)])
    (first,) = log_keys(shop)
    write_lines(shop, MODEL, [line(1.1)])
    assert read(shop, 24) == ["at-1.2", "at-1.1"]
    shop.delete(first)
    assert read(shop, 24) == ["at-1.1"]
    (kept,) = shop.list(FILES)
    assert b"at-1.2" not in gzip.decompress(shop.read(kept))


def test_an_hour_deleted_from_the_log_is_not_read(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(1), line(5)])
    assert read(shop, 24) == ["at-5", "at-1"]
    shop.delete(log_keys(shop)[0])
    assert read(shop, 24) == ["at-1"]


def test_what_was_deleted_and_replaced_is_read_again(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(1.1)])
    read(shop, 24)
    for key in log_keys(shop):
        shop.delete(key)
    write_lines(shop, MODEL, [line(1.2)])
    assert read(shop, 24) == ["at-1.2"]


@pytest.mark.parametrize(
    "data", [b"", b"no gzip", gzip.compress(b"{}\n"), gzip.compress(b"\xff\xfe"), gzip.compress(b"x" * 999)[:-9]]
)
def test_a_damaged_object_is_skipped_and_reported(shop: CountingStore, data: bytes) -> None:
    write_lines(shop, MODEL, [line(1)])
    damaged = log_keys(shop)[0].replace(".jsonl.gz", "-damaged.jsonl.gz")
    shop.write(damaged, data)
    for _ in range(2):
        (hour,) = read_hours(shop, MODEL, ago(24), NOW)
        assert names([hour]) == ["at-1"]
        assert hour.unreadable == ((damaged,) if data else ())


def test_a_line_without_a_time_zone_invalidates_its_object_alone(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(1)])
    naive = line(1.1).model_dump_json().replace('Z"', '"') + "\n"
    damaged = log_keys(shop)[0].replace(".jsonl.gz", "-naive.jsonl.gz")
    shop.write(damaged, gzip.compress(naive.encode()))
    (hour,) = read_hours(shop, MODEL, ago(24), NOW)
    assert (names([hour]), hour.unreadable) == (["at-1"], (damaged,))


def test_a_damaged_object_that_is_deleted_is_no_longer_reported(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(1)])
    damaged = log_keys(shop)[0].replace(".jsonl.gz", "-damaged.jsonl.gz")
    shop.write(damaged, b"no gzip")
    read(shop, 24)
    shop.delete(damaged)
    (hour,) = read_hours(shop, MODEL, ago(24), NOW)
    assert (names([hour]), hour.unreadable) == (["at-1"], ())


@pytest.mark.parametrize("data", [b"", b"no gzip", gzip.compress(b"{"), gzip.compress(b'{"a": 1}'), None])
def test_a_damaged_hour_file_is_rebuilt(shop: CountingStore, data: bytes | None) -> None:
    write_lines(shop, MODEL, [line(1.1), line(1.2)])
    first = read_hours(shop, MODEL, ago(24), NOW)
    (key,) = shop.list(FILES)
    shop.write(key, shop.read(key)[:-20] if data is None else data)
    assert read_hours(shop, MODEL, ago(24), NOW) == first
    shop.forget()
    read_hours(shop, MODEL, ago(24), NOW)
    assert shop.keys["read"] == [key]


def test_a_window_holds_its_start_and_not_its_end(shop: CountingStore) -> None:
    tiny = timedelta(microseconds=1)
    times = {"before": ago(4) - tiny, "start": ago(4), "last": ago(1) - tiny, "end": ago(1)}
    write_lines(shop, MODEL, [line(0, name).model_copy(update={"time": time}) for name, time in times.items()])
    assert read(shop, 4, 1) == ["start", "last"]
    assert read(shop, 1, 1) == []


def test_only_hours_that_lie_in_the_window_are_whole(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(h / 2) for h in range(12)])
    half = read_hours(shop, MODEL, ago(3), NOW)
    assert [(hour.start.hour, hour.whole) for hour in half] == [(9, False), (10, True), (11, True), (12, False)]
    full = read_hours(shop, MODEL, ago(2.5), ago(0.5))
    assert [(hour.start.hour, hour.whole, len(hour.lines)) for hour in full] == [(10, True, 2), (11, True, 2)]


def test_the_identity_of_an_hour_depends_on_its_lines_in_the_window(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(2.6), line(2.9)])
    (more,), (less,) = (read_hours(shop, MODEL, ago(first), NOW) for first in (3, 2.8))
    assert (names([more]), names([less])) == (["at-2.9", "at-2.6"], ["at-2.6"])
    assert more.identity != less.identity


@pytest.mark.parametrize("text", ["tie\u2028dye", "a\u0085b", "a\u2029b", "藍\nrings", 'a "b" \\ \0'])
def test_a_prompt_may_hold_any_character(shop: CountingStore, text: str) -> None:
    write_lines(shop, MODEL, [line(1, prompt=text), line(1.1)])
    for _ in range(2):
        (hour,) = read_hours(shop, MODEL, ago(24), NOW)
        assert hour.lines[-1].prompt == text
        assert hour.unreadable == ()


def test_models_have_hours_of_their_own(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(1)])
    assert names(read_hours(shop, "another", ago(24), NOW)) == []
    assert read(shop, 24) == ["at-1"]


def test_newest_lines_stop_at_the_number_asked_for(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(h / 2) for h in range(40)])
    found = newest_lines(shop, MODEL, ago(24), ago(1), 5)
    assert [one.request_id for one in found] == ["at-3.5", "at-3.0", "at-2.5", "at-2.0", "at-1.5"]
    assert len(shop.keys["read"]) < 10, "older hours are not read"


def test_newest_lines_are_all_where_there_are_few(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(3), line(2), line(2)])
    assert [one.request_id for one in newest_lines(shop, MODEL, ago(3), NOW, 99)] == ["at-3", "at-2"]
    assert newest_lines(shop, MODEL, ago(1), NOW, 99) == []


@pytest.mark.parametrize("days", [59, 60, 61, 400, 9000])
def test_long_spans_are_read_completely(shop: CountingStore, days: int) -> None:
    hours = 24.0 * days
    write_lines(shop, MODEL, [line(h) for h in (hours + 0.1, hours, hours / 2, 24, 0.1)])
    wanted = [f"at-{h}" for h in (hours, hours / 2, 24, 0.1)]
    assert read(shop, hours) == wanted
    assert [one.request_id for one in newest_lines(shop, MODEL, ago(hours), NOW, 3)] == wanted[1:]


def test_times_of_other_zones_lie_in_the_hour_of_utc(shop: CountingStore) -> None:
    there = datetime.fromisoformat("2026-03-20T01:30:00+05:30")
    write_lines(shop, MODEL, [line(0, "abroad").model_copy(update={"time": there})])
    (hour,) = read_hours(shop, MODEL, ago(24), NOW)
    assert (hour.start.hour, names([hour])) == (20, ["abroad"])


def test_hours_are_cached_on_s3_too(bucket: str) -> None:
    store = S3Store(f"s3://{bucket}/{uuid4().hex}", connect())
    write_lines(store, MODEL, [line(h / 2) for h in range(1, 13)])
    assert len(read(store, 24)) == 12
    write_lines(store, MODEL, [line(2.1), line(2.0)])
    store.delete(log_keys(store)[0])
    for _ in range(2):
        found = read_hours(store, MODEL, ago(24), NOW)
        assert [one for hour in found for one in hour.lines] == read_lines(store, MODEL, ago(24), NOW)
        assert "at-2.1" in names(found)


def test_old_hours_are_dropped_and_read_again_from_the_log(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(20), line(1)])
    whole = read_hours(shop, MODEL, ago(24), NOW)
    forget_hours(shop, MODEL, ago(10))
    assert len(list(shop.list(FILES))) == 1
    assert read_hours(shop, MODEL, ago(24), NOW) == whole


def test_an_hour_file_without_a_log_is_deleted(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(5), line(1)])
    read(shop, 24)
    shop.delete(log_keys(shop)[0])
    assert read(shop, 24) == ["at-1"]
    assert len(list(shop.list(FILES))) == 1


@pytest.mark.any_key
def test_other_objects_are_left_alone(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(1)])
    for key in ("dt=2026-02-31/hour=01/x.jsonl.gz", "dt=2026-03-20/hour=24/x.jsonl.gz", "notes.txt"):
        shop.write(LOG + key, b"")
    assert read(shop, 24) == ["at-1"]
    assert read(shop, 24 * 90) == ["at-1"]


def test_newest_lines_list_no_month_before_they_are_enough(shop: CountingStore) -> None:
    write_lines(shop, MODEL, [line(24 * days) for days in range(1, 700)])
    counting = counting_store.CountingStore(shop)
    assert len(newest_lines(counting, MODEL, ago(24 * 800), NOW, 60)) == 60
    lists = {key: count for key, count in counting.requests.items() if key.startswith("list")}
    assert lists == {
        f"list prompts/{MODEL}/": 1,
        f"list prompts/{MODEL}/dt=2026-03": 1,
        f"list prompts/{MODEL}/dt=2026-02": 1,
        f"list prompts/{MODEL}/dt=2026-01": 1,
    }


def test_an_object_that_was_replaced_since_it_was_listed_is_read_where_it_is(shop: CountingStore) -> None:
    """As in a compaction between listing and reading."""
    write_lines(shop, MODEL, [line(1.1)])
    write_lines(shop, MODEL, [line(1.2)])
    first, second = log_keys(shop)

    class Replacing(CountingStore):
        def read(self, key: str) -> bytes:
            if key == second and shop.exists(first):
                merged = shop.read(first), shop.read(second)
                shop.write(second.replace(".jsonl.gz", "-merged.jsonl.gz"), b"".join(merged))
                shop.delete_many([first, second])
            return super().read(key)

    replacing = Replacing(FolderStore(Path(str(shop.url).removeprefix("file://"))))
    assert names(read_hours(replacing, MODEL, ago(24), NOW)) == ["at-1.2", "at-1.1"]
    assert [one.request_id for one in read_lines(replacing, MODEL, ago(24), NOW)] == ["at-1.2", "at-1.1"]
