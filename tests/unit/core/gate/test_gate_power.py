"""The gate's error rates and power with further looks; `python -m tests.bench gate` shows the tables."""

import pytest

from tasks.core.gate.statistics import MEASURES, Measure
from tests.gates import World, shares

RESAMPLES = 2000  # of 10,000: the figures are the same to a tenth of a percent or two, in a third of the time


def test_equal_models_are_hardly_ever_promoted() -> None:
    found = shares(World(prompts=60, noise=0.03), 5000, resamples=RESAMPLES)
    assert found.promoted <= 0.065
    assert 0.45 <= found.naive <= 0.55, "the mean of one of two equal models is higher half of the time"


def test_equal_models_are_hardly_ever_promoted_over_twelve_prompts() -> None:
    assert shares(World(prompts=12, noise=0.03), 1000, resamples=RESAMPLES).promoted <= 0.065


@pytest.mark.parametrize("lasting", [0.0, 0.5])
def test_a_real_gain_is_promoted(lasting: float) -> None:
    found = shares(World(prompts=60, noise=0.03, lasting=lasting, gain=0.02), 500, resamples=RESAMPLES)
    assert found.promoted >= 0.9
    assert found.looked > 0, "some guards needed more seeds"


@pytest.mark.parametrize("measure", MEASURES[1:])
def test_a_gain_does_not_offset_a_loss_of_two_margins(measure: Measure) -> None:
    found = shares(World(gain=0.05, worse={measure: 2.0}), 100, resamples=RESAMPLES)
    assert (found.promoted, found.naive) == (0, 1)


def test_a_loss_of_one_margin_rarely_passes() -> None:
    found = shares(World(gain=0.05, worse={"diversity": 1.0}), 500, resamples=RESAMPLES)
    assert found.promoted <= 0.08
    assert found.looked >= 0.8
