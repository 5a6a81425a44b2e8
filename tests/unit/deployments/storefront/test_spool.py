"""The spool: no answered request is lost with its process, whatever the store and the disk do."""

import itertools
import logging
import os
import resource
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.storefront.spool import SEGMENTS, Spool
from tasks.core.store import FolderStore
from tasks.core.traffic.feedback import Vote, read_votes, write_votes
from tasks.core.traffic.prompt_log import read_lines
from tests.logging_process import writers
from tests.shop import MODEL

START, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
Process = subprocess.Popen[str]


@pytest.fixture
def storefronts(tmp_path: Path) -> Iterator[list[Process]]:
    """Processes that are killed at the end."""
    running: list[Process] = []
    yield running
    for process in running:
        process.kill()
        process.wait()


def begin(storefronts: list[Process], home: Path, seconds: float) -> Process:
    command = [sys.executable, "-m", "tests.logging_process", str(home / "store"), str(home / "spool"), str(seconds)]
    storefronts.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return storefronts[-1]


def answered(process: Process, count: int) -> list[str]:
    """The next answers of a process."""
    assert process.stdout
    return [name.strip() for name in itertools.islice(process.stdout, count)]


def kill(process: Process, how: signal.Signals = signal.SIGKILL) -> list[str]:
    """End a process; returns what it had answered beyond what was read."""
    process.send_signal(how)
    assert process.stdout
    rest = [name.strip() for name in process.stdout if name.endswith("\n")]
    process.wait(60)
    return rest


def take_away(home: Path) -> FolderStore:
    """The store, which fails from now on."""
    store = FolderStore(home / "store")
    (home / "store").rename(home / "away")
    (home / "store").write_text("no folder")
    return store


def bring_back(home: Path) -> None:
    (home / "store").unlink()
    (home / "away").rename(home / "store")


def restart(home: Path, store: FolderStore | None = None) -> None:
    """What the next storefront does at its start and at its end."""
    for writer in writers(store or FolderStore(home / "store"), home / "spool", 60):
        writer.start()
        writer.stop()


def logged(home: Path) -> tuple[list[str], list[str]]:
    store = FolderStore(home / "store")
    votes = read_votes(store, MODEL, START, END)
    return [line.request_id for line in read_lines(store, MODEL, START, END)], [vote.request_id for vote in votes]


@pytest.mark.parametrize("seconds", [0.02, 60])
def test_what_was_answered_before_kill_9_is_logged_once(
    storefronts: list[Process], tmp_path: Path, seconds: float
) -> None:
    process = begin(storefronts, tmp_path, seconds)
    names = answered(process, 2500) + kill(process)
    restart(tmp_path)
    for found in logged(tmp_path):
        assert set(names) <= set(found)
        assert max(Counter(found).values()) == 1
        assert len(found) - len(names) <= 1, "the request whose answer was cut off"
    assert list((tmp_path / "spool").rglob("*.jsonl")) == []


def test_what_was_answered_while_the_store_was_away_is_logged(storefronts: list[Process], tmp_path: Path) -> None:
    process = begin(storefronts, tmp_path, 0.02)
    names = answered(process, 100)
    store = take_away(tmp_path)
    names += answered(process, 2500) + kill(process)
    restart(tmp_path, store)  # in vain
    bring_back(tmp_path)
    restart(tmp_path)
    for found in logged(tmp_path):
        assert set(names) <= set(found)
        assert len(found) - len(names) <= 1


def test_sigterm_writes_all(storefronts: list[Process], tmp_path: Path) -> None:
    process = begin(storefronts, tmp_path, 60)
    names = answered(process, 10) + kill(process, signal.SIGTERM)
    assert logged(tmp_path) == (names, names)


def test_storefronts_on_one_machine_leave_each_others_lines_alone(storefronts: list[Process], tmp_path: Path) -> None:
    living, dead = (begin(storefronts, tmp_path, 60) for _ in range(2))
    kept, names = answered(living, 10), answered(dead, 10) + kill(dead)
    restart(tmp_path)
    assert set(names) <= set(logged(tmp_path)[0])
    assert not set(kept) & set(logged(tmp_path)[0]), "they belong to the one that lives"
    kept += kill(living)
    restart(tmp_path)
    assert set(names + kept) <= set(logged(tmp_path)[0])


def lines_of(spool: Spool) -> list[bytes]:
    return [line for _, lines in spool.pending() for line in lines]


def test_half_a_last_line_is_dropped_and_the_others_survive(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    for line in (b"one", b"two", b"three"):
        first.add(line)
    first.close()
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - 3)
    second = Spool(tmp_path)
    assert second.take_over() == 2
    second.add(b"four")
    assert lines_of(second) == [b"one", b"two", b"four"]


@pytest.mark.parametrize("data", [b"", b"half a line"])
def test_a_file_without_a_whole_line_is_deleted(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "1.jsonl").write_bytes(data)
    assert Spool(tmp_path).take_over() == 0
    assert list(tmp_path.iterdir()) == []


def test_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.add(b"a prompt")
    (path,) = (tmp_path / "spool").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_oldest_lines_are_dropped_from_a_full_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most=SEGMENTS * 100)
    for number in range(1000):
        spool.add(b"%019d" % number)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= SEGMENTS * 100
    kept = lines_of(spool)
    assert kept == [b"%019d" % number for number in range(1000 - len(kept), 1000)]
    assert len(kept) >= 300
    assert (spool.forget_dropped(), spool.forget_dropped()) == (1000 - len(kept), 0)


def test_a_segment_dropped_while_it_is_stored_is_not_counted_as_dropped(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most=SEGMENTS * 10)
    spool.add(b"%019d" % 0)
    for segment, lines in spool.pending():
        assert lines
        for number in range(100):
            spool.add(b"%019d" % number)
        spool.remove(segment)
    assert spool.waiting + spool.forget_dropped() == 100


def test_segments_left_by_many_crashes_are_taken_over_as_there_is_room(tmp_path: Path) -> None:
    for number in range(2 * SEGMENTS):
        left = Spool(tmp_path)
        left.add(b"%d" % number)
        left.close()
    spool, found = Spool(tmp_path), []
    while spool.take_over():
        for segment, lines in spool.pending():
            found += lines
            spool.remove(segment)
    assert sorted(found) == sorted(b"%d" % number for number in range(2 * SEGMENTS))


def test_a_disk_that_cannot_be_written_fails_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spool").write_text("no folder")
    spool = Spool(tmp_path / "spool", most=SEGMENTS * 100)
    for number in range(1000):
        spool.add(b"%019d" % number)
    assert "cannot be written" in caplog.text
    assert "set DYEWORKS_SPOOL to another folder" in caplog.text
    assert 300 <= spool.in_memory == spool.waiting <= 320
    (tmp_path / "spool").unlink()
    stored = 0
    for segment, lines in spool.pending():
        spool.remove(segment)
        stored += len(lines)
    assert stored + spool.forget_dropped() == 1000
    spool.add(b"on disk again")
    assert (spool.in_memory, spool.waiting) == (0, 1)


def test_a_disk_that_is_full_fails_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In a process of its own, whose files may have no more than 1,000 bytes."""
    code = """
import logging, resource, signal, sys
from pathlib import Path
from deployments.storefront.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
spool = Spool(Path(sys.argv[1]))
for number in range(100):
    spool.add(b"%019d" % number)
print(spool.in_memory, [int(line) for _, lines in spool.pending() for line in lines] == list(range(100)))
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["50", "True"], done.stderr
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size == 1000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_lines_that_stay_and_lines_that_are_lost_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    store = take_away(tmp_path)
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool/feedback").write_text("no folder")
    prompts, votes = writers(store, tmp_path / "spool", 60)
    votes.add(Vote(request_id="a", time=START, liked=True, release="r", generation=1, session="s"))
    votes.start()
    votes.stop()
    assert "the last 1 lines of the feedback are lost: they could not be stored" in caplog.text
    assert prompts.spool.waiting == 0
    (tmp_path / "spool/feedback").unlink()
    votes = writers(store, tmp_path / "spool", 60)[1]
    votes.add(Vote(request_id="a", time=START, liked=True, release="r", generation=1, session="s"))
    votes.start()
    votes.stop()
    assert f"1 lines of the feedback stay in {tmp_path}/spool/feedback for the next storefront" in caplog.text


def test_a_damaged_line_is_left_out_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FolderStore(tmp_path / "store")
    write_votes(store, MODEL, [])
    _, votes = writers(store, tmp_path / "spool", 60)
    votes.spool.add(b'{"schema_version": 99}')
    votes.add(Vote(request_id="a", time=START, liked=True, release="r", generation=1, session="s"))
    votes.start()
    votes.stop()
    assert [vote.request_id for vote in read_votes(store, MODEL, START, END)] == ["a"]
    assert "a line of the feedback is left out" in caplog.text
