"""`dyeworks outbox`: what waits is listed, dead letters are replayed, on SQLite and on a real Postgres."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.app import run
from deployments.gateway.batches import UploadBatch
from deployments.gateway.outbox import Arrival, UploadOutbox
from tasks.core.events import Declined, make_event
from tasks.core.outbox import emit
from tasks.core.store import FolderStore
from tests.events_server import EventsServer
from tests.postgres_server import PostgresServer


@pytest.fixture
def outbox(outbox_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadOutbox]:
    monkeypatch.setenv("DYEWORKS_OUTBOX", outbox_url)
    opened = UploadOutbox(outbox_url)
    opened.batches.state()  # creates the tables
    yield opened
    opened.close()


def batch(outbox: UploadOutbox, dataset: str, *, dead: bool = False) -> UploadBatch:
    assert all(asyncio.run(outbox.add([Arrival(dataset, "a", dataset), Arrival(dataset, "b", f"{dataset} b")])))
    made = outbox.batches.make(dataset)
    assert made
    if dead:
        outbox.batches.record_refusal(made, "409:\nno such dataset", 60, dead=True)
    return made


def lines(capsys: pytest.CaptureFixture[str], *command: str) -> list[str]:
    assert run(["outbox", *command]) == 0
    return capsys.readouterr().out.splitlines()


def test_nothing_waits(outbox: UploadOutbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, "list") == ["nothing waits"]
    assert lines(capsys, "list", "--dead") == ["no dead letter"]
    assert lines(capsys, "list", "--json") == ["[]"]
    assert lines(capsys, "replay", "--all") == ["no dead letter"]


def test_what_waits_is_listed(outbox: UploadOutbox, capsys: pytest.CaptureFixture[str]) -> None:
    waiting, dead = batch(outbox, "cloth"), batch(outbox, "linen", dead=True)
    asyncio.run(outbox.add([Arrival("wool", "a", "1")]))
    first, *others = lines(capsys, "list")
    assert first.endswith("not in a batch yet  dataset wool  1 objects")
    letter = f"{dead.id}  dead  dataset linen  2 objects  409: no such dataset"
    assert others == [f"{waiting.id}  waits  dataset cloth  2 objects", letter]
    assert lines(capsys, "list", "--dead") == [letter]
    found: list[dict[str, Any]] = json.loads("\n".join(lines(capsys, "list", "--json")))
    assert [(one["dataset"], one["objects"], one.get("dead")) for one in found] == [
        ("wool", 1, None),
        ("cloth", 2, False),
        ("linen", 2, True),
    ]


def test_what_does_not_print_is_escaped(outbox: UploadOutbox, capsys: pytest.CaptureFixture[str]) -> None:
    batch(outbox, "cl\u202eoth")
    (line,) = lines(capsys, "list")
    assert r"dataset 'cl\u202eoth'  2 objects" in line


def test_dead_letters_are_replayed(outbox: UploadOutbox, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = batch(outbox, "cloth", dead=True), batch(outbox, "linen", dead=True)
    assert lines(capsys, "replay", second.id) == [f"{second.id}  is tried again"]
    assert lines(capsys, "replay", "--all") == [f"{first.id}  is tried again"]
    assert [one.dead for one in outbox.batches.unsent()] == [False, False]


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["nothing"], 1, "no dead letter nothing; see `dyeworks outbox list --dead`"),
        ([], 2, "name dead letters, or give --all"),
        (["a", "--all"], 2, "name dead letters, or give --all"),
    ],
)
def test_wrong_names_are_refused(
    outbox: UploadOutbox, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, problem: str
) -> None:
    assert run(["outbox", "replay", *arguments]) == code
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("url", ["sqlite:///{folder}/file/outbox.db", "postgresql://a:pass-word@127.0.0.1:9/x"])
def test_an_outbox_that_cannot_be_used_is_one_line_without_its_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DYEWORKS_OUTBOX", url.format(folder=tmp_path))
    assert run(["outbox", "list"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "check DYEWORKS_OUTBOX" in line
    assert "pass-word" not in line


def test_a_database_that_is_no_outbox_is_named_and_nothing_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.db").touch()
    for path in (tmp_path / "wrong" / "outbox.db", tmp_path / "wrong.db", tmp_path / "other.db", tmp_path):
        monkeypatch.setenv("DYEWORKS_OUTBOX", f"sqlite:///{path}")
        for command in (["list"], ["list", "--dead"], ["replay", "--all"]):
            assert run(["outbox", *command]) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert str(path) in line
            assert "check DYEWORKS_OUTBOX" in line
    assert {path.name for path in tmp_path.iterdir()} <= {"other.db", "other.db-wal", "other.db-shm"}


def test_a_postgres_without_an_outbox_is_named_and_nothing_is_created(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DYEWORKS_OUTBOX", postgres.new_database())
    for _ in range(2):
        assert run(["outbox", "list"]) == 1
        assert "check DYEWORKS_OUTBOX" in capsys.readouterr().err


def test_events_are_sent_again(events: EventsServer, folder: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    event = make_event("dyeworks.retrain.declined", "adire", Declined(reason="too soon", decision="d1"))
    emit(folder, events.prefect, event)
    assert lines(capsys, "resend") == []
    assert [sent["id"] for sent in events.events] == [event.id, event.id]
