"""The Prefect server on SQLite, with its garbage collected in a thread of its own.

A cursor whose statement failed ("database is locked") leaves a cycle, by its traceback. Python collects it in whatever
thread allocates next: in the server that of the event loop. To reset the statement SQLite needs the connection's mutex,
which another thread holds as long as it waits for the database: up to 60 seconds, for a transaction that the blocked
event loop cannot commit. Then everything fails at once, heartbeats are lost, and runs count as crashed. In a thread of
its own the collection waits instead, and the event loop goes on.
"""

import gc
import itertools
import sys
import time
from threading import Thread

MIDDLE, OLDEST = 10, 60  # seconds between two collections of these generations; the youngest has one


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

    sys.argv[1:1] = ["server", "start"]
    app()


if __name__ == "__main__":
    collect_in_a_thread()
    main()
