"""SIGTERM: recorded until the step in progress ends."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Lock, Thread, current_thread, main_thread
from types import FrameType
from typing import TypeVar

from tasks.core.errors import Terminated

T = TypeVar("T")
LOOK = 0.2  # seconds between two checks for a signal that another thread received


class Termination:
    """Whether SIGTERM was received, and whether a block handles it."""

    def __init__(self) -> None:
        self.asked = self.heeded = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        self.asked = True


_noted: ContextVar[Termination | None] = ContextVar("termination", default=None)


@contextmanager
def termination() -> Iterator[Termination]:
    """Record SIGTERM instead of ending; at the end of the block it is delivered again, to the previous handler.

    Only the main thread can have a handler. In the thread of `interruptible` that one records it; in any other
    thread nothing changes, and `asked` stays false.

    Raises:
        Terminated: SIGTERM was received and the previous handler did not end the process; the block is incomplete.
    """
    noted = _noted.get()
    with _heeded(noted) if noted else _handled() as found:
        yield found
    if found.asked:
        raise Terminated


@contextmanager
def _heeded(noted: Termination) -> Iterator[Termination]:
    noted.heeded = True
    try:
        yield noted
    finally:
        noted.heeded = False


@contextmanager
def _handled() -> Iterator[Termination]:
    noted = Termination()
    if current_thread() is not main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGTERM, noted.note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
        if noted.asked:
            signal.raise_signal(signal.SIGTERM)


def interruptible(work: Callable[[], T]) -> T:
    """Run work in another thread, so that the main thread keeps its own handler of SIGTERM, which raises.

    Some handlers must stay installed (Prefect ignores a cancellation while another one is). What the handler raises is
    raised here, once a block of `termination()` that is in progress has ended.
    """
    noted, done, idle, busy = Termination(), Future[T](), Lock(), Lock()
    context = copy_context()
    context.run(_noted.set, noted)
    idle.acquire()
    busy.acquire()
    Thread(target=context.run, args=(_work, work, done, idle, busy), daemon=True).start()
    stop: BaseException | None = None
    while noted.heeded or not stop:
        try:  # bare locks: other primitives are damaged by an exception in the middle
            if idle.locked():  # released in here: before it the handler raises without any work started
                idle.release()
            while not busy.acquire(timeout=LOOK):
                pass
            break
        except BaseException as error:
            noted.asked, stop = True, stop or error
    if stop:
        raise stop from (done.exception() if done.done() else None)
    return done.result()


def _work(work: Callable[[], T], done: "Future[T]", idle: Lock, busy: Lock) -> None:
    try:
        idle.acquire()
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)
    finally:
        busy.release()


@contextmanager
def raising() -> Iterator[None]:
    """SIGTERM raises Terminated, in the main thread."""
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated
