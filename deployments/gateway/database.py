"""The outbox's database: SQLite or Postgres by URL, its tables, and transactions on it."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError

from tasks.core.errors import DyeworksError, SettingError

DRIVERS = {"sqlite": "sqlite", "postgres": "postgresql+psycopg2", "postgresql": "postgresql+psycopg2"}
BUSY_SECONDS = 10  # that SQLite waits for another process's transaction
POSTGRES = {  # a server that is gone fails a statement, and does not hold it for ever
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "application_name": "dyeworks-gateway",
    "options": "-c statement_timeout=10000 -c idle_in_transaction_session_timeout=30000",
}
CREATION = 15_2026  # Postgres' advisory lock: two processes may not create a table at once

metadata = MetaData()
arrivals = Table(
    "dyeworks_arrivals",
    metadata,
    Column("identity", String, primary_key=True),
    Column("dataset", String, nullable=False),
    Column("key", String, nullable=False),
    Column("ready", Boolean, nullable=False),
    Column("arrived", Float, nullable=False),  # seconds since 1970, as all times here
    Column("batch", String),
    sqlite_with_rowid=False,
)
waiting = arrivals.c.batch.is_(None)
Index(
    "dyeworks_arrivals_waiting",
    *(arrivals.c.dataset, arrivals.c.arrived, arrivals.c.ready),
    sqlite_where=waiting,
    postgresql_where=waiting,
)
Index("dyeworks_arrivals_batch", arrivals.c.batch)
batches = Table(
    "dyeworks_batches",
    metadata,
    Column("id", String, primary_key=True),
    Column("dataset", String, nullable=False),
    Column("objects", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("due", Float, nullable=False),  # when its run is to be started
    Column("refused", Float),  # when the server first rejected it
    Column("refusals", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Column("run", String, nullable=False),  # the id of its run, once that was created
    Column("sent", Float),  # when that was
    Column("dead", Boolean, nullable=False),
)
Index("dyeworks_batches_sent", batches.c.sent)


class DatabaseReplaced(DyeworksError):
    """The file of a database was removed or replaced while it was open."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} was removed or replaced while it was open; it is opened anew")
        self.path = path


class Database:
    """A database that is opened by its first transaction: it may be away when the process starts."""

    def __init__(self, url: str, *, create: bool = True) -> None:
        """Without `create` the tables, and the file, have to be there.

        Raises SettingError for a URL that is none of SQLite or Postgres.
        """
        self.url, self.create = _parsed(url), create
        self._lock = Lock()
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None  # device and inode of the file that was opened

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.url.get_backend_name()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write; committed at the end of the block."""
        with self._opened().begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads; in SQLite it waits for no writer."""
        with self._opened().execution_options(begin="BEGIN").begin() as connection:
            yield connection

    @contextmanager
    def single(self) -> Iterator[Connection]:
        """A connection on which each statement is a transaction of its own."""
        sqlite = self.dialect == "sqlite"
        options = {"begin": ""} if sqlite else {"isolation_level": "AUTOCOMMIT"}
        with self._opened().execution_options(**options).connect() as connection:
            yield connection
        self._opened()  # raises if the file went meanwhile, and what was committed with it

    def close(self) -> None:
        """Close the connections; the next transaction opens new ones."""
        with self._lock:
            self._dispose()

    def _dispose(self) -> None:
        if self._engine:
            self._engine.dispose()
        self._engine = None

    def _opened(self) -> Engine:
        """Raises DatabaseReplaced once when the file is not that which was opened."""
        with self._lock:
            if self._engine and self._found() != self._file:
                self._dispose()
                raise DatabaseReplaced(str(self.url.database))
            if not self._engine:
                engine = self._engine_of_url()
                if self.create:
                    with engine.begin() as connection:
                        if self.dialect == "postgresql":
                            connection.execute(text(f"SELECT pg_advisory_xact_lock({CREATION})"))
                        metadata.create_all(connection)
                self._engine, self._file = engine, self._found()
            return self._engine

    def _found(self) -> tuple[int, int] | None:
        """Device and inode of the file; None where there is none."""
        if self.dialect != "sqlite":
            return None
        try:
            found = Path(str(self.url.database)).stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _engine_of_url(self) -> Engine:
        if self.dialect == "postgresql":
            return create_engine(self.url, hide_parameters=True, pool_pre_ping=True, connect_args=POSTGRES)
        if self.create:
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
        elif not self._found():
            raise FileNotFoundError(f"there is no file {self.url.database}")
        engine = create_engine(self.url, hide_parameters=True)
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        return engine


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
        return url.set(drivername=DRIVERS[url.get_backend_name()])
    except (ArgumentError, KeyError, ValueError):  # its message could show a password
        problem = "it is no URL of SQLite or Postgres, such as sqlite:////var/lib/dyeworks/outbox.db"
        raise SettingError("DYEWORKS_OUTBOX", problem) from None


def _configure(connection: DBAPIConnection, _: object) -> None:
    """Have every commit on the disk before it returns, and begin transactions ourselves."""
    setattr(connection, "isolation_level", None)  # noqa: B010  of sqlite3, which the type does not know
    cursor = connection.cursor()
    for pragma in (f"busy_timeout = {BUSY_SECONDS * 1000}", "synchronous = FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    deadline = time.monotonic() + BUSY_SECONDS
    while not _use_log(cursor):
        if time.monotonic() >= deadline:
            raise sqlite3.OperationalError("the file cannot have a write-ahead log now; it must be on a local disk")
        time.sleep(0.02)
    cursor.close()


def _use_log(cursor: DBAPICursor) -> bool:
    """Switch to a write-ahead log; false while others do the same, for whom SQLite does not wait here.

    Where there can be none, as in memory, SQLite answers with the mode that it keeps.
    """
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
        return bool(cursor.fetchone() == ("wal",))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return False
        raise


def _begin(connection: Connection) -> None:
    """A transaction that may write takes its lock first: once it has read, it may not wait for it any more."""
    if statement := connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"):
        connection.exec_driver_sql(statement)
