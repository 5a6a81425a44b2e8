"""SIGTERM during a training: noted, and delivered to whoever had it before."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from tasks.core.config.installation import ROOT
from tasks.core.errors import Terminated
from tasks.core.training.termination import interruptible, raising, termination


class Told(Exception):
    """Raised by the handler that was there before."""


def tell(number: int, frame: FrameType | None) -> None:
    raise Told


@pytest.fixture
def before() -> Iterator[None]:
    kept = signal.signal(signal.SIGTERM, tell)
    yield
    signal.signal(signal.SIGTERM, kept)


@pytest.mark.usefixtures("before")
def test_a_signal_is_noted_and_delivered_at_the_end_of_the_block() -> None:
    course = []
    with pytest.raises(Told), termination() as noted:  # noqa: PT012
        course.append(noted.asked)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        course.append(noted.asked)
    assert course == [False, True]
    assert signal.getsignal(signal.SIGTERM) is tell


@pytest.mark.usefixtures("before")
def test_without_a_signal_the_handler_is_put_back_and_nothing_delivered() -> None:
    with termination() as noted:
        assert signal.getsignal(signal.SIGTERM) is not tell
    assert not noted.asked
    assert signal.getsignal(signal.SIGTERM) is tell


@pytest.mark.usefixtures("before")
def test_an_error_of_the_block_is_kept_as_the_cause_s_context() -> None:
    with pytest.raises(Told) as caught, termination():  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        raise OSError("no space left")
    assert isinstance(caught.value.__context__, OSError)


@pytest.mark.usefixtures("before")
def test_another_thread_changes_nothing() -> None:
    seen = []

    def look() -> None:
        with termination() as noted:
            seen.append((signal.getsignal(signal.SIGTERM), noted.asked))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(tell, False)]


@pytest.mark.usefixtures("before")
def test_a_handler_that_lets_it_be_does_not_make_the_block_complete() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with pytest.raises(Terminated), termination():
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("late", [0.0, 0.3])
@pytest.mark.usefixtures("before")
def test_work_in_a_thread_ends_its_block_before_the_main_thread_s_handler_is_heard(
    monkeypatch: pytest.MonkeyPatch, late: float
) -> None:
    course = []
    start = threading.Thread.start

    def slowly(thread: threading.Thread) -> None:
        """As on a busy machine: the new thread is far before the starting one goes on."""
        start(thread)
        time.sleep(late)

    monkeypatch.setattr(threading.Thread, "start", slowly)

    def work() -> None:
        with termination() as noted:
            assert signal.getsignal(signal.SIGTERM) is tell
            signal.raise_signal(signal.SIGTERM)
            while not noted.asked:
                time.sleep(0.01)
            time.sleep(0.5)
            signal.raise_signal(signal.SIGTERM)  # as when the process' group is told after the process
            time.sleep(0.5)
            course.append("saved")

    with pytest.raises(Told) as caught:
        interruptible(work)
    assert course == ["saved"]
    assert isinstance(caught.value.__cause__, Terminated)


@pytest.mark.usefixtures("before")
def test_work_that_looks_at_no_termination_is_not_waited_for() -> None:
    going_on = threading.Event()

    def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        going_on.wait()

    with pytest.raises(Told):
        interruptible(work)
    going_on.set()


def test_the_result_and_the_error_of_work_are_those_of_the_call() -> None:
    assert interruptible(lambda: threading.current_thread() is threading.main_thread()) is False
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)


@pytest.mark.usefixtures("before")
def test_sigterm_can_be_an_error_like_any_other() -> None:
    with pytest.raises(Terminated), raising():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is tell


def test_with_no_handler_before_the_process_dies_of_it_after_the_block() -> None:
    code = """
import signal
from tasks.core.training.termination import termination
with termination():
    signal.raise_signal(signal.SIGTERM)
    print("saved", flush=True)
print("never")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "saved\n")
