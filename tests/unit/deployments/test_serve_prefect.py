"""The Prefect server on SQLite: transactions that wait instead of failing, garbage that waits without stopping them."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration

from deployments.serve_prefect import LockingSqlite

PROGRAM = """
import gc, sqlite3, sys, threading, time
from deployments import serve_prefect

class Cycle:
    pass

holder, waiter = (sqlite3.connect(sys.argv[1], isolation_level=None, check_same_thread=False) for _ in range(2))
holder.execute("PRAGMA journal_mode=WAL")
holder.execute("CREATE TABLE t (x)")
holder.execute("BEGIN IMMEDIATE")
waiter.execute("PRAGMA busy_timeout=0")
gc.disable()
left = Cycle()
left.itself, left.cursor = left, waiter.cursor()
try:
    left.cursor.execute("INSERT INTO t VALUES (1)")
except sqlite3.OperationalError as error:
    left.error = error
waiter.execute("PRAGMA busy_timeout=4000")
said = []

def write():
    try:
        waiter.execute("INSERT INTO t VALUES (2)")
        said.append("written")
    except sqlite3.OperationalError as error:
        said.append(str(error))

thread = threading.Thread(target=write)
thread.start()
time.sleep(0.5)
del left
if sys.argv[2] == "thread":
    serve_prefect.collect_in_a_thread()
    time.sleep(2)
else:
    gc.collect()
holder.execute("COMMIT")
thread.join()
print(said[0])
"""


@pytest.mark.parametrize(("where", "said"), [("here", "database is locked"), ("thread", "written")])
def test_a_transaction_is_committed_while_garbage_waits_for_the_database(where: str, said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "test.db"), where]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip() == said


async def both_written(database: AioSqliteConfiguration) -> int:
    """What two transactions leave of a number that each adds one to; the first reads before the second writes."""
    engine = await database.engine()
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
        await connection.execute(sa.text("INSERT INTO t VALUES (1)"))
    has_read = asyncio.Event()

    async def read_then_write() -> None:
        async with await database.session(engine) as session, database.begin_transaction(session):
            await session.execute(sa.text("SELECT x FROM t"))
            has_read.set()
            await asyncio.sleep(0.3)
            await session.execute(sa.text("UPDATE t SET x = x + 1"))

    async def write() -> None:
        await has_read.wait()
        async with await database.session(engine) as session, database.begin_transaction(session):
            await session.execute(sa.text("UPDATE t SET x = x + 1"))

    await asyncio.gather(read_then_write(), write())
    async with await database.session(engine) as session:
        return int((await session.execute(sa.text("SELECT x FROM t"))).scalar_one())


def test_a_transaction_that_reads_before_it_writes_fails_in_prefects_own_configuration(tmp_path: Path) -> None:
    with pytest.raises(sa.exc.OperationalError, match="database is locked"):
        asyncio.run(both_written(AioSqliteConfiguration(f"sqlite+aiosqlite:///{tmp_path}/test.db")))


def test_a_transaction_that_reads_before_it_writes_is_committed(tmp_path: Path) -> None:
    assert asyncio.run(both_written(LockingSqlite(f"sqlite+aiosqlite:///{tmp_path}/test.db"))) == 3


async def read_meanwhile(database: AioSqliteConfiguration) -> int:
    """What another session reads during a transaction."""
    engine = await database.engine()
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
    async with await database.session(engine) as session, database.begin_transaction(session):
        await session.execute(sa.text("INSERT INTO t VALUES (1)"))
        async with await database.session(engine) as other:
            return int((await other.execute(sa.text("SELECT count(*) FROM t"))).scalar_one())


def test_another_session_reads_during_a_transaction(tmp_path: Path) -> None:
    assert asyncio.run(read_meanwhile(LockingSqlite(f"sqlite+aiosqlite:///{tmp_path}/test.db"))) == 0
