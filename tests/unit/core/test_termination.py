"""SIGTERM during a training: noted, and delivered to whoever had it before."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from tasks.core.settings import ROOT
from tasks.core.training.termination import termination


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
