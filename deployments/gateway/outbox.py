"""The uploads that have arrived, in a database before their senders are answered.

One thread writes: what is added while it commits is committed together next.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Condition, Thread
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from deployments.gateway.batches import UploadBatches
from deployments.gateway.database import Database
from deployments.problems import ApiError

MOST_WAITING = 20_000  # arrivals that wait for a commit
ANSWER_SECONDS = 30.0  # for a commit
# One statement a transaction: whenever a thread calls the database it has to wait for Python's lock afterwards.
INSERT = {
    dialect: text(
        "INSERT INTO dyeworks_arrivals (identity, dataset, key, ready, arrived) "
        f"SELECT {columns} FROM {rows} WHERE NOT EXISTS "
        f"(SELECT 1 FROM dyeworks_arrivals AS known WHERE known.identity = value->>5) "
        "ON CONFLICT DO NOTHING RETURNING identity"
    )
    for dialect, columns, rows in (
        ("sqlite", "value->>0, value->>1, value->>2, value->>3, value->>4", "json_each(:rows)"),
        (
            "postgresql",
            "value->>0, value->>1, value->>2, (value->3)::boolean, (value->4)::float",
            "jsonb_array_elements(CAST(:rows AS jsonb))",
        ),
    )
}

log = logging.getLogger("dyeworks.gateway")


class OutboxUnavailable(ApiError):
    """The outbox takes nothing now; what was sent has to be sent again."""

    status = 503
    code = "unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the outbox {reason}; send it again", retry_after=5)
        self.reason = reason


class Arrival(NamedTuple):
    """An object that was written under `uploads/<dataset>/`."""

    dataset: str
    key: str  # below `uploads/<dataset>/`
    identity: str  # a hex digest, equal in repeated notifications of one write
    content: str = ""  # a hex digest of dataset, key and ETag: one that is known as an identity is no new arrival
    ready: bool = False  # ends the burst at once


class _Write(NamedTuple):
    """Arrivals to be stored, and the request that waits for it."""

    found: Sequence[Arrival]
    answer: "asyncio.Future[list[bool]]"


class UploadOutbox:
    """Arrivals in SQLite (`sqlite:///path`) or Postgres (`postgresql://...`)."""

    def __init__(self, url: str) -> None:
        """Raises SettingError; the database itself is opened by the first request."""
        self.database = Database(url)
        self.batches = UploadBatches(self.database)
        self.wake: Callable[[], None] = lambda: None  # called when new arrivals are stored
        self._changed, self._closed = Condition(), False
        self._waiting, self._size = list[_Write](), 0
        self._thread: Thread | None = None

    async def add(self, found: Sequence[Arrival]) -> list[bool]:
        """Store arrivals; returns, after the commit, which of them are new.

        Raises:
            OutboxUnavailable: the database failed or is too slow, or too much is waiting for it.
        """
        if not found:
            return []
        answer: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        self._put(_Write(found, answer))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                new = await answer
        except TimeoutError as error:
            raise OutboxUnavailable("did not store it in time") from error
        if any(new):
            self.wake()
        return new

    def close(self) -> None:
        """Store what is waiting, then close the database."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread:
            self._thread.join()
        self.database.close()

    def _put(self, write: _Write) -> None:
        with self._changed:
            if self._closed or (self._size and self._size + len(write.found) > MOST_WAITING):
                raise OutboxUnavailable("is closed" if self._closed else "is full")
            if not self._thread:
                self._thread = Thread(target=self._write_all, name="outbox", daemon=True)
                self._thread.start()
            self._waiting.append(write)
            self._size += len(write.found)
            self._changed.notify()

    def _write_all(self) -> None:
        problem = ""
        while group := self._next():
            try:
                new = iter(self._store([one for write in group for one in write.found]))
                _resolve(group, [[next(new) for _ in write.found] for write in group])
                problem = ""
            except Exception as error:  # thread boundary: the senders repeat it
                _resolve(group, None)
                if str(error) != problem:  # it is logged once while it lasts
                    expected = isinstance(error, SQLAlchemyError | OSError)
                    log.error("nothing is stored: %s", error, exc_info=not expected)
                problem = str(error)

    def _next(self) -> list[_Write]:
        """All that waits, as soon as there is something; nothing when the outbox was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            group, self._waiting, self._size = self._waiting, [], 0
            return group

    def _store(self, found: Sequence[Arrival]) -> list[bool]:
        """Store arrivals in one transaction of one statement; returns which are new."""
        rows, new = dict[str, list[object]](), list[bool]()
        for one in found:
            new.append(one.identity not in rows and one.content not in rows)
            if new[-1]:
                rows[one.identity] = _row(one)
        # In one order: two gateways that store the same arrivals at once would else wait for each other.
        document = json.dumps([rows[name] for name in sorted(rows)])
        with self.database.single() as connection:
            stored = set(connection.scalars(INSERT[self.database.dialect], {"rows": document}))
        return [fresh and one.identity in stored for one, fresh in zip(found, new, strict=True)]


def _resolve(group: list[_Write], results: list[list[bool]] | None) -> None:
    """Answer the requests of a group, in one call of each event loop."""
    for loop in {write.answer.get_loop() for write in group}:
        with suppress(RuntimeError):  # the loop was closed, and nobody waits any more
            loop.call_soon_threadsafe(_answer, loop, group, results)


def _answer(loop: asyncio.AbstractEventLoop, group: list[_Write], results: list[list[bool]] | None) -> None:
    for number, write in enumerate(group):
        if write.answer.get_loop() is not loop or write.answer.done():
            continue
        if results is None:
            write.answer.set_exception(OutboxUnavailable("cannot store it"))
        else:
            write.answer.set_result(results[number])


def _row(one: Arrival) -> list[object]:
    key = one.key.replace("\0", "�")  # Postgres stores no NUL, and keys are only for people to read
    return [one.identity, one.dataset, key, one.ready, time.time(), one.content]
