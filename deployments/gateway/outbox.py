"""The uploads that have arrived, in a database before their senders are answered.

One thread writes: what is added while it commits is committed together next.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from threading import Condition, Thread
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from deployments.gateway.batches import UploadBatches
from deployments.gateway.database import Database
from deployments.problems import ApiError
from tasks.core.errors import DyeworksError

MOST_WAITING = 20_000  # arrivals that wait for a commit
CONTENT_SECONDS = 300.0  # in which a known content is no new arrival; later it may have come back after another one
ANSWER_SECONDS = 30.0  # for a commit
# A thread that calls the database has to wait for Python's lock after each call, so a group is one statement, and
# what it has stored is only looked up where that is not all or nothing.
INSERT = (
    "INSERT INTO dyeworks_arrivals (identity, dataset, key, ready, arrived) "
    "SELECT {0}, {1}, {2}, CAST({3} AS boolean), :arrived FROM {rows} WHERE NOT EXISTS "
    "(SELECT 1 FROM dyeworks_arrivals AS known WHERE known.identity = {4} AND known.arrived > :since) "
    "ON CONFLICT DO NOTHING"
)
STORED = (
    "SELECT known.identity FROM {rows} JOIN dyeworks_arrivals AS known ON known.identity = {0} "
    "WHERE known.arrived = :arrived"
)
ROWS = {"sqlite": "json_each(:rows)", "postgresql": "jsonb_array_elements(CAST(:rows AS jsonb))"}
FIELD = {"sqlite": "json_extract(value, '$[{}]')", "postgresql": "value->>{}"}

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
    content: str = ""  # a hex digest of dataset, key and ETag: no new arrival if it has just arrived as an identity
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
        rows, field = ROWS[self.database.dialect], FIELD[self.database.dialect]
        self._statement, self._lookup = (
            text(statement.format(*map(field.format, range(5)), rows=rows)) for statement in (INSERT, STORED)
        )
        self.problem = ""  # why nothing was stored at the last try; empty when it was
        self.wake: Callable[[], None] = lambda: None  # called when new arrivals are stored
        self._changed, self._closed = Condition(), False
        self._waiting, self._size = list[_Write](), 0
        self._announced: asyncio.AbstractEventLoop | None = None  # the loop that wakes the thread when its turn ends
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

    async def arrived(self, identities: Collection[str]) -> Mapping[str, float]:
        """When arrivals came, in seconds since 1970, 0 for one that is not here; raises OutboxUnavailable."""
        if not identities:
            return {}
        try:
            found = await asyncio.to_thread(self.batches.arrived, identities)
        except (DyeworksError, SQLAlchemyError) as error:
            raise OutboxUnavailable("cannot be read") from error
        return dict.fromkeys(identities, 0.0) | found

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
            loop, announced = write.answer.get_loop(), self._announced
            self._announced = loop
        if loop is not announced:
            loop.call_soon(self._announce)

    def _announce(self) -> None:
        """Wake the thread once for all that was added in one turn of the event loop."""
        with self._changed:
            self._announced = None
            self._changed.notify()

    def _write_all(self) -> None:
        while group := self._next():
            try:
                new, self.problem = iter(self._store([one for write in group for one in write.found])), ""
                _resolve(group, [[next(new) for _ in write.found] for write in group])
            except Exception as error:  # thread boundary: the senders repeat it
                known, self.problem = self.problem, str(error) or type(error).__name__
                _resolve(group, None)
                if self.problem != known:  # it is logged once while it lasts
                    expected = isinstance(error, DyeworksError | SQLAlchemyError | OSError)
                    log.error("nothing is stored: %s", error, exc_info=not expected)

    def _next(self) -> list[_Write]:
        """All that waits, as soon as there is something; nothing when the outbox was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            group, self._waiting, self._size = self._waiting, [], 0
            return group

    def _store(self, found: Sequence[Arrival]) -> list[bool]:
        """Store arrivals in one transaction; returns which are new."""
        rows, new = dict[str, tuple[object, ...]](), list[bool]()
        for one in found:
            new.append(one.identity not in rows and one.content not in rows)
            if new[-1]:
                key = one.key.replace("\0", "�")  # Postgres stores no NUL, and keys are only for people to read
                rows[one.identity] = (one.identity, one.dataset, key, one.ready, one.content)
        stored = self._insert(rows)
        return [fresh and one.identity in stored for one, fresh in zip(found, new, strict=True)]

    def _insert(self, rows: Mapping[str, tuple[object, ...]]) -> Collection[str]:
        """Insert rows by identity; returns the identities that were not known."""
        # In one order: two gateways that store the same arrivals at once would else wait for each other.
        document, arrived = json.dumps([rows[name] for name in sorted(rows)]), time.time()
        values = {"rows": document, "arrived": arrived, "since": arrived - CONTENT_SECONDS}
        with self.database.single() as connection:
            number = connection.execute(self._statement, values).rowcount
            if number in {0, len(rows)}:
                return rows if number else ()
            return set(connection.scalars(self._lookup, {"rows": document, "arrived": arrived}).all())


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
