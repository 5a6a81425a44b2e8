"""Work on many pictures at once, with bounds on what is in memory.

Threads, as decoders, hashes and network connections leave Python's lock to others while they work.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import TypeVar

THREADS = 4  # for each core: the others work while some wait for the store
MOST_THREADS = 16  # as many connections to a server are kept
PIXELS = 64_000_000  # that are decoded at once: those of one of the largest pictures that are taken by default
AHEAD = 4  # results for each thread that wait to be taken

T = TypeVar("T")
R = TypeVar("R")


class Room:
    """A number of bytes or pixels that may be in use at once; more than all of it is let in alone."""

    def __init__(self, size: int) -> None:
        self._size, self._free, self._changed = size, size, Condition()

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Wait until there is room for so much, and use it for the block."""
        amount = min(amount, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


def threads() -> int:
    """How many threads work on pictures of a store."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, THREADS * cores)


def in_order(work: Callable[[T], R], things: Iterable[T], workers: int = 0) -> Iterator[R]:
    """The results of the work on each thing, in their order; the first error ends the rest.

    Args:
        workers: threads; 0 for the number that suits this machine.
    """
    count = workers or threads()
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for thing in things:
                waiting.append(pool.submit(work, thing))
                if len(waiting) > AHEAD * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
