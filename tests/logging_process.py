"""A process that logs prompts and votes as a storefront does, and prints each request once it is answered.

`python -m tests.logging_process STORE SPOOL SECONDS` goes on until it is killed, or until SIGTERM.
"""

import signal
import sys
import threading
from functools import partial
from pathlib import Path

from deployments.storefront.batch_writer import BatchWriter
from deployments.storefront.spool import Spool
from tasks.core import clock
from tasks.core.store import FolderStore, Store
from tasks.core.traffic.feedback import Vote, write_votes
from tasks.core.traffic.prompt_log import PromptLine, write_lines
from tests.shop import MODEL, line_at


def writers(store: Store, spool: Path, seconds: float) -> tuple[BatchWriter[PromptLine], BatchWriter[Vote]]:
    """The writers of a storefront."""
    prompts, votes = (partial(write, store, MODEL) for write in (write_lines, write_votes))
    return (
        BatchWriter("prompt log", PromptLine, prompts, Spool(spool / "prompts"), seconds),
        BatchWriter("feedback", Vote, votes, Spool(spool / "feedback"), seconds),
    )


def vote_on(line: PromptLine) -> Vote:
    return Vote(request_id=line.request_id, time=line.time, liked=True, release="r", generation=1, session="s")


def main(store: str, spool: str, seconds: str) -> None:
    """Log and print until it is stopped."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    prompts, votes = writers(FolderStore(Path(store)), Path(spool), float(seconds))
    prompts.start()
    votes.start()
    number = 0
    while not ended.is_set():
        line = line_at(clock.now(), f"{spool}-{id(ended)}-{number}", "rings \u2028 in\nadire_style")
        prompts.add(line)
        votes.add(vote_on(line))
        print(line.request_id, flush=True)
        number += 1
    prompts.stop()
    votes.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
