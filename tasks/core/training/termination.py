"""SIGTERM, which says that the machine goes away, noted until there is time to answer it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Termination:
    """Whether SIGTERM has come."""

    def __init__(self) -> None:
        self.asked = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        self.asked = True


@contextmanager
def termination() -> Iterator[Termination]:
    """Note SIGTERM instead of dying; at the end of the block it is delivered again, to whoever had it before.

    Only the main thread can have a handler: in any other one nothing changes and `asked` stays false.
    """
    noted = Termination()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGTERM, noted.note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
        if noted.asked:
            signal.raise_signal(signal.SIGTERM)
