"""A real Postgres on a free port, with its data in a temporary folder, as an unprivileged user."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests.s3_server import end_with_parent, free_ports

PLACES = Path("/usr/lib/postgresql")  # where Debian has each version's programs
USERS = ("postgres", "nobody")  # one of which runs it, since it refuses root
START_SECONDS = 60.0
INITIALISE = ("--auth=trust", "--username=dyeworks", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
CONFIGURATION = ("-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=50")


class PostgresServer:
    """A server that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        (self.port,) = free_ports(1)
        self.programs = _programs()
        self.user = _user()
        if self.user:
            shutil.chown(folder, self.user)
        self._call("initdb", *INITIALISE, "-D", str(self.data)).wait()
        self.start()

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        place = ("-D", str(self.data), "-p", str(self.port), "-k", str(self.folder))
        self.process = self._call("postgres", *place, *CONFIGURATION)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OperationalError):
                self._execute("SELECT 1")
                return
            time.sleep(0.02)
        raise RuntimeError(f"Postgres does not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """End it at once, with all its connections."""
        self.process.kill()
        self.process.wait()

    def url(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql://dyeworks@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The address of a new, empty database."""
        name = f"test_{uuid4().hex}"
        self._execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _execute(self, statement: str) -> None:
        engine = create_engine(self.url("postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def _call(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self.programs / program, *arguments],
                cwd=self.folder,
                user=self.user,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - one call into the C library
            )


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server, which ends with this block or with the tests' process."""
    with tempfile.TemporaryDirectory(prefix="dyeworks-postgres-") as folder:
        server = PostgresServer(Path(folder))
        try:
            yield server
        finally:
            server.stop()


def _programs() -> Path:
    """The folder of the newest version's programs; a machine without any gets Debian's package."""
    if not (found := _found()) and os.geteuid() == 0 and shutil.which("apt-get"):
        options = ("-qq", "-o", "DPkg::Lock::Timeout=300")
        subprocess.run(["apt-get", *options, "update"], check=True)
        subprocess.run(["apt-get", *options, "install", "-y", "postgresql"], check=True, stdout=subprocess.DEVNULL)
        found = _found()
    assert found, "Postgres is missing: install it, for instance by `apt-get install postgresql`"
    return found


def _found() -> Path | None:
    known = [Path(program).parent] if (program := shutil.which("initdb")) else []
    versions = sorted(PLACES.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return next(iter([*known, *(path.parent for path in reversed(versions))]), None)


def _user() -> str | None:
    """Who runs it; None: who runs the tests."""
    if os.geteuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in USERS if name in known)
