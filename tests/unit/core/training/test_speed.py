"""Speed and time left, by a clock that the test turns."""

import pytest

from tasks.core.training.progress import Speed, progress_line


def test_the_speed_is_that_of_the_last_steps_and_the_mean_that_of_all() -> None:
    times = iter([0.0, 10.0, *(12.0 + 2 * i for i in range(50)), *(110.5 + 0.5 * i for i in range(100))])
    speed = Speed(lambda: next(times))
    assert speed.mean() == 0
    assert speed.count() == {}, "there is no speed of one step"
    assert speed.count() == {"steps_per_second": 0.5}
    for _ in range(49):
        slow = speed.count()
    assert slow == {"steps_per_second": 0.5}
    for _ in range(100):
        quick = speed.count()
    assert quick == {"steps_per_second": 2.0}
    assert speed.mean() == pytest.approx(151 / 160, abs=0.001)


def test_the_time_left_is_told_once_there_is_a_speed() -> None:
    assert progress_line(1, 800, {"loss": 0.12345}) == "step 1/800, loss 0.1235"
    line = progress_line(50, 800, {"loss": 0.1, "steps_per_second": 2.5})
    assert line == "step 50/800, loss 0.1000, 2.50 steps/s, ETA 5 min 00 s"
    assert progress_line(800, 800, {"loss": 0.1, "steps_per_second": 2.5}).endswith("ETA 0 min 00 s")
