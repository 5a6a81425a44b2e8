"""The batching writer: by time, by number, again after an error."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.storefront import batch_writer
from deployments.storefront.batch_writer import BatchWriter
from deployments.storefront.spool import Spool
from tasks.core.traffic.feedback import Vote

TIME = datetime(2026, 3, 20, 12, 30, tzinfo=UTC)


class Writes:
    """A store that is away for its first writes."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.batches, self.written = list(errors), list[list[str]](), threading.Event()

    def __call__(self, votes: list[Vote]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.batches.append([vote.request_id for vote in votes])
        self.written.set()


def writer_of(write: Writes, folder: Path, seconds: float) -> BatchWriter[Vote]:
    return BatchWriter("feedback", Vote, write, Spool(folder), seconds)


def add(writer: BatchWriter[Vote], *names: str) -> None:
    for name in names:
        writer.add(Vote(request_id=name, time=TIME, liked=True, release="r", generation=1, session="s"))


def test_lines_are_retried_after_a_store_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write = Writes(ConnectionError("away"), RuntimeError("of an S3 client"))
    writer = writer_of(write, tmp_path, 0.01)
    add(writer, "a", "b", "c")
    writer.start()
    assert write.written.wait(30)
    writer.stop()
    assert write.batches == [["a", "b", "c"]]
    assert "3 lines of the feedback could not be stored and are retried: away" in caplog.text


def test_many_lines_are_written_before_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_writer, "MOST_LINES", 3)
    write = Writes()
    writer = writer_of(write, tmp_path, 3600)
    writer.start()
    add(writer, "a", "b", "c")
    assert write.written.wait(30)
    add(writer, "d")
    writer.stop()
    assert write.batches == [["a", "b", "c"], ["d"]]


def test_dropped_lines_are_logged_once_the_store_is_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write = Writes(ConnectionError("away"))
    writer = BatchWriter("feedback", Vote, write, Spool(tmp_path, most=1000), 3600)
    add(writer, *"abcdefghij")
    writer._write()
    assert "dropped" not in caplog.text
    writer._write()
    stored = [name for batch in write.batches for name in batch]
    assert stored == list("abcdefghij")[-len(stored) :]
    assert f"{10 - len(stored)} lines of the feedback were dropped" in caplog.text
