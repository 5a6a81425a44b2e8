"""The outbox's database: opened by many at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from deployments.gateway import database as module
from deployments.gateway.database import Database

OPENERS, ROUNDS = 8, 100


def test_a_new_file_is_opened_by_many_at_once(tmp_path: Path) -> None:
    """SQLite itself waits for nobody while several switch to its log: one round of twenty failed."""
    start = Barrier(OPENERS)

    def journal(database: Database) -> str:
        start.wait()
        with database.writing() as connection:
            return str(connection.execute(text("PRAGMA journal_mode")).scalar())

    with ThreadPoolExecutor(OPENERS) as pool:
        for number in range(ROUNDS):
            databases = [Database(f"sqlite:///{tmp_path}/{number}.db") for _ in range(OPENERS)]
            assert list(pool.map(journal, databases)) == ["wal"] * OPENERS
            for database in databases:
                database.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_without_a_log_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0)
    with pytest.raises(OperationalError, match="write-ahead log"), Database(url).writing():
        pass
