"""The outbox's database: opened by many at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import text

from deployments.gateway.database import Database


def test_a_new_file_is_opened_by_many_at_once(tmp_path: Path) -> None:
    """SQLite waits for nobody while several switch to its log: without our waiting, 6 of 150 rounds failed."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            databases = [Database(f"sqlite:///{tmp_path}/{number}.db") for _ in range(8)]
            assert list(pool.map(_journal, databases)) == ["wal"] * 8
            for database in databases:
                database.close()


def _journal(database: Database) -> str:
    with database.writing() as connection:
        return str(connection.execute(text("PRAGMA journal_mode")).scalar())
