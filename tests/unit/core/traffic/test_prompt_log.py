"""The prompt log: written at least once, read once, by the hour."""

import gzip
from datetime import UTC, datetime, timedelta

import pytest

from tasks.core.errors import DocumentInvalid
from tasks.core.store import FolderStore
from tasks.core.traffic.prompt_log import PromptLine, hash_session, read_lines, write_lines
from tests.shop import line_at

MODEL = "adire"
START = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)


def line(minutes: float, name: str = "", prompt: str = "rings in adire_style") -> PromptLine:
    return line_at(START + timedelta(minutes=minutes), name or f"at-{minutes}", prompt)


def read(store: FolderStore, first: float, last: float) -> list[str]:
    window = (START + timedelta(minutes=edge) for edge in (first, last))
    return [found.request_id for found in read_lines(store, MODEL, *window)]


def test_lines_come_back_as_they_were_written(folder: FolderStore) -> None:
    lines = [line(m, prompt="anneaux, 藍染め") for m in (0, 1, 200)]
    write_lines(folder, MODEL, lines)
    assert read_lines(folder, MODEL, START, START + timedelta(days=1)) == lines


def test_the_window_holds_its_start_and_not_its_end(folder: FolderStore) -> None:
    write_lines(folder, MODEL, [line(m) for m in (-0.001, 0, 59.999, 60)])
    assert read(folder, 0, 60) == ["at-0", "at-59.999"]
    assert read(folder, 60, 60) == []


@pytest.mark.parametrize(
    ("first", "last", "count"), [(0, 60, 6), (25, 35, 1), (30, 90, 6), (85, 95, 1), (-60, 600, 20)]
)
def test_windows_go_across_hours_and_midnight(folder: FolderStore, first: float, last: float, count: int) -> None:
    write_lines(folder, MODEL, [line(10 * i) for i in range(20)])
    assert len(read(folder, first, last)) == count


def test_each_hour_is_an_object_of_its_own(folder: FolderStore) -> None:
    write_lines(folder, MODEL, [line(m) for m in (0, 10, 40, 100)])
    hours = [key.rpartition("/")[0] for key in folder.list(f"prompts/{MODEL}/")]
    assert hours == [
        "prompts/adire/dt=2026-03-01/hour=22",
        "prompts/adire/dt=2026-03-01/hour=23",
        "prompts/adire/dt=2026-03-02/hour=00",
    ]


def test_a_line_that_was_written_twice_counts_once(folder: FolderStore) -> None:
    for _ in range(2):
        write_lines(folder, MODEL, [line(0), line(1)])
    assert len(list(folder.list(f"prompts/{MODEL}/"))) == 2
    assert read(folder, 0, 10) == ["at-0", "at-1"]


def test_lines_are_read_in_the_order_of_time(folder: FolderStore) -> None:
    write_lines(folder, MODEL, [line(5), line(3)])
    write_lines(folder, MODEL, [line(4), line(3, "another")])
    assert read(folder, 0, 10) == ["another", "at-3", "at-4", "at-5"]


def test_models_have_logs_of_their_own(folder: FolderStore) -> None:
    write_lines(folder, "adire-2", [line(0)])
    assert read(folder, 0, 10) == []


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"{}\n"), gzip.compress(b"\xff\xfe"), b""])
def test_a_damaged_object_is_named(folder: FolderStore, data: bytes) -> None:
    key = f"prompts/{MODEL}/dt=2026-03-01/hour=22/damaged.jsonl.gz"
    folder.write(key, data)
    if data:
        with pytest.raises(DocumentInvalid, match=r"damaged\.jsonl\.gz") as caught:
            read(folder, 0, 10)
        assert caught.value.key == key
    else:
        assert read(folder, 0, 10) == []


def test_an_object_that_was_cut_off_is_named(folder: FolderStore) -> None:
    write_lines(folder, MODEL, [line(m) for m in range(20)])
    (key,) = folder.list(f"prompts/{MODEL}/")
    folder.write(key, folder.read(key)[:-30])
    with pytest.raises(DocumentInvalid):
        read(folder, 0, 10)


def test_a_session_is_a_keyed_hash() -> None:
    hashed = hash_session("ada", "key")
    assert len(hashed) == 16
    assert int(hashed, 16) >= 0
    assert hashed == hash_session("ada", "key")
    assert len({hashed, hash_session("ada", "other key"), hash_session("bob", "key")}) == 3
