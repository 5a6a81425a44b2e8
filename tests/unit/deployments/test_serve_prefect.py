"""Garbage that waits for a database must not stop the thread that would free it."""

import subprocess
import sys
from pathlib import Path

import pytest

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
