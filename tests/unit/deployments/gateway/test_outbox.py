"""The outbox on SQLite and on a real Postgres: what is new, groups, failures."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from deployments.gateway import outbox as module
from deployments.gateway.database import DatabaseReplaced, arrivals
from deployments.gateway.outbox import Arrival, OutboxUnavailable, UploadOutbox
from tasks.core.config.installation import Settings
from tasks.core.errors import SettingError
from tests.postgres_server import PostgresServer
from tests.waiting import wait_for


@pytest.fixture
def outbox(outbox_url: str) -> Iterator[UploadOutbox]:
    opened = UploadOutbox(outbox_url)
    yield opened
    opened.close()


def arrival(number: int, content: str = "", dataset: str = "cloth") -> Arrival:
    return Arrival(dataset, f"{number}.png", f"{number:064x}", content)


def added(outbox: UploadOutbox, *found: Arrival) -> list[bool]:
    return asyncio.run(outbox.add(found))


def stored(outbox: UploadOutbox) -> int:
    return sum(burst.objects for burst in outbox.batches.bursts())


def test_a_write_is_new_once(outbox: UploadOutbox) -> None:
    assert added(outbox, arrival(1), arrival(2)) == [True, True]
    assert added(outbox, arrival(2), arrival(3), arrival(3)) == [False, True, False]
    assert stored(outbox) == 3


def test_what_the_gateway_wrote_itself_is_not_new_when_the_store_notifies_of_it(outbox: UploadOutbox) -> None:
    own = arrival(7, content=f"{7:064x}")
    assert added(outbox, own, arrival(8, content=own.content)) == [True, False]
    assert added(outbox, arrival(9, content=own.content)) == [False]
    assert added(outbox, arrival(10, content="other"), arrival(11, content="other")) == [True, True]
    assert stored(outbox) == 3


def test_nothing_opens_no_database(tmp_path: Path) -> None:
    outbox = UploadOutbox(f"sqlite:///{tmp_path}/none/outbox.db")
    assert added(outbox) == []
    outbox.close()
    assert not list(tmp_path.iterdir())


def test_many_arrivals_at_once(outbox: UploadOutbox) -> None:
    many = [arrival(number, content=f"c{number}") for number in range(3 * 1000)]
    assert all(added(outbox, *many))
    assert not any(added(outbox, *many))


def test_a_key_that_postgres_cannot_store(outbox: UploadOutbox) -> None:
    assert added(outbox, Arrival("cloth", "a\0b 🧵", "1")) == [True]


def test_concurrent_requests_share_a_commit_and_get_their_own_answers(outbox: UploadOutbox) -> None:
    async def both() -> list[list[bool]]:
        rows = (outbox.add([arrival(number), arrival(number + 1)]) for number in range(50))
        return await asyncio.gather(*rows)

    answers = asyncio.run(both())
    assert answers == [[True, True], *[[False, True]] * 49]


def test_two_gateways_store_the_same_arrivals_once(outbox_url: str) -> None:
    gateways = [UploadOutbox(outbox_url) for _ in range(3)]
    many = [arrival(number) for number in range(300)]

    async def all_at_once() -> list[list[bool]]:
        return await asyncio.gather(*(one.add(many[::step]) for step in (1, -1) for one in gateways))

    answers = asyncio.run(all_at_once())
    assert sum(map(sum, answers)) == 300
    assert stored(gateways[0]) == 300
    for one in gateways:
        one.close()


def test_a_full_queue_refuses(outbox: UploadOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)

    async def too_many() -> list[list[bool] | BaseException]:
        adds = (outbox.add([arrival(number), arrival(number + 100)]) for number in range(3))
        return await asyncio.gather(*adds, return_exceptions=True)

    first, *others = asyncio.run(too_many())
    assert first == [True, True]
    assert any(isinstance(other, OutboxUnavailable) and other.status == 503 for other in others)
    assert all(added(outbox, *(arrival(number) for number in range(1000, 1010)))), "one that is larger than the queue"


def test_a_closed_outbox_has_stored_what_it_took(outbox_url: str) -> None:
    outbox = UploadOutbox(outbox_url)

    async def close_meanwhile() -> list[bool]:
        adding = asyncio.create_task(outbox.add([arrival(1)]))
        await asyncio.sleep(0)
        await asyncio.to_thread(outbox.close)
        return await adding

    assert asyncio.run(close_meanwhile()) == [True]
    with pytest.raises(OutboxUnavailable, match="closed"):
        added(outbox, arrival(2))


def test_a_database_that_cannot_be_opened_refuses_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outbox = UploadOutbox(f"sqlite:///{tmp_path}/file/outbox.db")
    with pytest.raises(OutboxUnavailable, match="send it again"):
        added(outbox, arrival(1))
    (tmp_path / "file").unlink()
    assert added(outbox, arrival(1)) == [True]
    outbox.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_went_refuses_once_and_is_made_anew(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "outbox.db"
    outbox = UploadOutbox(f"sqlite:///{path}")
    assert added(outbox, arrival(1)) == [True]
    path.rename(tmp_path / "old.db")
    if replaced:
        path.touch()
    with pytest.raises(OutboxUnavailable, match="send it again"):
        added(outbox, arrival(2))
    assert "was removed or replaced" in outbox.problem
    assert added(outbox, arrival(2)) == [True]
    assert outbox.problem == ""
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT key FROM dyeworks_arrivals").fetchall() == [("2.png",)]
    outbox.close()


def test_a_file_that_goes_while_a_group_is_stored_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    database = UploadOutbox(f"sqlite:///{path}").database

    def write_while_it_goes() -> None:
        with database.single() as connection:
            path.unlink()
            connection.exec_driver_sql("DELETE FROM dyeworks_batches")

    with pytest.raises(DatabaseReplaced):
        write_while_it_goes()
    database.close()


def test_known_content_that_comes_back_later_is_new(outbox: UploadOutbox) -> None:
    own = arrival(7, content=f"{7:064x}")
    assert added(outbox, own) == [True]
    assert added(outbox, arrival(8, content=own.content)) == [False], "the store's own notification"
    with outbox.database.writing() as connection:
        connection.execute(update(arrivals).values(arrived=arrivals.c.arrived - module.CONTENT_SECONDS))
    assert added(outbox, arrival(9, content=own.content)) == [True]
    assert added(outbox, own, arrival(9, content=own.content)) == [False, False], "an identity is known for longer"


def test_a_postgres_that_restarts(postgres: PostgresServer) -> None:
    outbox = UploadOutbox(postgres.new_database())
    assert added(outbox, arrival(1)) == [True]
    postgres.stop()
    try:
        with pytest.raises(OutboxUnavailable):
            added(outbox, arrival(2))
    finally:
        postgres.start()
    assert added(outbox, arrival(1), arrival(2)) == [False, True]
    outbox.close()


def test_sqlite_has_every_commit_on_the_disk(tmp_path: Path) -> None:
    outbox = UploadOutbox(f"sqlite:///{tmp_path}/outbox.db")
    with outbox.database.writing() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    outbox.close()
    assert pragmas == ["wal", 2]


def test_a_writer_waits_for_another_process(tmp_path: Path) -> None:
    outbox = UploadOutbox(f"sqlite:///{tmp_path}/outbox.db")
    assert added(outbox, arrival(1)) == [True]

    async def while_locked() -> list[bool]:
        with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            adding = asyncio.create_task(outbox.add([arrival(2)]))
            await asyncio.to_thread(outbox.batches.bursts)  # a reader does not wait
            assert not adding.done()
            other.execute("COMMIT")
            return await adding

    assert asyncio.run(while_locked()) == [True]
    outbox.close()


PROGRAM = """
import asyncio, itertools, sys
from deployments.gateway.outbox import Arrival, UploadOutbox
async def main():
    outbox = UploadOutbox(sys.argv[1])
    for number in itertools.count():
        await outbox.add([Arrival("cloth", "a.png", str(number))])
        print(number, flush=True)
asyncio.run(main())
"""


def test_what_was_answered_survives_a_kill(outbox_url: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, outbox_url], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    answered = [int(process.stdout.readline()) for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    answered += [int(line) for line in process.communicate()[0].splitlines() if line]
    outbox = UploadOutbox(outbox_url)
    wait_for(lambda: stored(outbox) >= len(answered), "the end of the killed process's transactions")
    assert not any(added(outbox, *(Arrival("cloth", "a.png", str(number)) for number in answered)))
    outbox.close()


@pytest.mark.parametrize("url", ["mysql://root:secret@db/x", "secret", "", "postgresql://a@db:secret/x"])
def test_other_urls_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(SettingError, match="DYEWORKS_OUTBOX") as refused:
        UploadOutbox(url)
    assert "secret" not in str(refused.value)


def test_it_lies_beside_the_cache_and_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Settings().outbox_url == f"sqlite:///{tmp_path}/outbox.db"
    monkeypatch.setenv("DYEWORKS_OUTBOX", "postgres://a:pass-word@db/x")
    assert "pass-word" not in repr(Settings())
    assert UploadOutbox(Settings().outbox_url).database.dialect == "postgresql"
