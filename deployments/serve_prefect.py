"""The Prefect server on SQLite, with two changes by which it waits for the database instead of failing.

Transactions take the lock for writing when they begin. Prefect's take it with their first write, and one that has read
before, while another has written, then fails at once ("database is locked"). Its request is answered with 503, and
tried again after two seconds: every run that an event or another run starts begins so much later.

Garbage is collected in a thread of its own. A cursor whose statement failed leaves a cycle, by its traceback. Python
collects it in whatever thread allocates next: in the server that of the event loop. To reset the statement SQLite needs
the connection's mutex, which another thread holds as long as it waits for the database: up to 60 seconds, for a
transaction that the blocked event loop cannot commit. Then everything fails at once, heartbeats are lost, and runs
count as crashed. In a thread of its own the collection waits instead, and the event loop goes on.
"""

import gc
import itertools
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from threading import Thread

from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
from prefect.server.database.dependencies import set_database_config
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

MIDDLE, OLDEST = 10, 60  # seconds between two collections of these generations; the youngest has one


class LockingSqlite(AioSqliteConfiguration):
    """SQLite whose transactions wait for the lock when they begin, and then don't fail."""

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, with_for_update: bool = False
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """Begin with the lock; other sessions that are opened meanwhile only read, and need none."""
        async with session.begin() as transaction:
            token = SQLITE_BEGIN_MODE.set("IMMEDIATE")
            try:
                await session.connection()
            finally:
                SQLITE_BEGIN_MODE.reset(token)
            yield transaction


def lock_when_begun() -> None:
    """Let this process use LockingSqlite, if its database is SQLite."""
    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if url.startswith("sqlite"):
        set_database_config(LockingSqlite(url))


def collect_in_a_thread() -> None:
    """Let a thread collect garbage for the whole process."""
    gc.disable()
    Thread(target=_collect, name="garbage", daemon=True).start()


def _collect() -> None:
    for number in itertools.count(1):
        time.sleep(1)
        gc.collect(2 if number % OLDEST == 0 else 1 if number % MIDDLE == 0 else 0)


def main() -> None:
    """Run `prefect server start` with the arguments of this process."""
    from prefect.cli import app  # noqa: PLC0415  after the thread has started

    lock_when_begun()
    sys.argv[1:1] = ["server", "start"]
    app()


if __name__ == "__main__":
    collect_in_a_thread()
    main()
