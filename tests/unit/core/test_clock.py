"""The pace of telling, by a clock that the test turns."""

import pytest

from tasks.core.clock import Throttle


class Clock:
    """Shows what it was set to."""

    def __init__(self) -> None:
        self.time = 50.0

    def __call__(self) -> float:
        return self.time


def act(pace: Throttle, clock: Clock, seconds: float) -> None:
    with pace.action():
        clock.time += seconds


def test_a_quick_action_is_due_once_a_second() -> None:
    clock = Clock()
    pace = Throttle(now=clock)
    assert not pace.due()
    clock.time += 0.9
    assert not pace.due()
    clock.time += 0.1
    assert pace.due()
    act(pace, clock, 0.005)
    clock.time += 0.9
    assert not pace.due()
    clock.time += 0.2
    assert pace.due()


def test_a_slow_action_takes_a_hundredth_of_the_time() -> None:
    clock = Clock()
    pace = Throttle(now=clock)
    spent, end = 0.0, clock.time + 10_000
    while clock.time < end:
        clock.time += 0.3
        if pace.due():
            act(pace, clock, 2)
            spent += 2
    assert 90 <= spent <= 100


def test_an_action_that_fails_slowly_is_not_tried_again_at_once() -> None:
    clock = Clock()
    pace = Throttle(now=clock)
    with pytest.raises(TimeoutError), pace.action():  # noqa: PT012
        clock.time += 30
        raise TimeoutError
    clock.time += 2999
    assert not pace.due()
    clock.time += 2
    assert pace.due()


def test_actions_can_be_further_apart() -> None:
    clock = Clock()
    pace = Throttle(30, clock)
    clock.time += 29
    assert not pace.due()
    clock.time += 1
    assert pace.due()
