"""Intervals of paired differences over few prompts."""

from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from tasks.core.gate.statistics import Values, mean, merged, paired_interval, widening

PROMPTS = tuple(f"prompt {i:02}" for i in range(12))
Floats = npt.NDArray[np.float64]


def values(means: Floats) -> Values:
    return {p: (float(v),) for p, v in zip(PROMPTS, means, strict=True)}


def interval(challenger: Floats, champion: Floats, confidence: float = 0.95) -> tuple[float, float, float]:
    return paired_interval(
        values(challenger), values(champion), (PROMPTS,), resamples=2000, confidence=confidence, seed=0
    )


@pytest.mark.parametrize(
    ("confidence", "freedom", "t"),
    [
        (0.95, 1, 12.7062),
        (0.95, 2, 4.3027),
        (0.95, 3, 3.1824),
        (0.95, 11, 2.2010),
        (0.99, 4, 4.6041),
        (0.9, 60, 1.6706),
    ],
)
def test_the_interval_is_widened_to_the_quantiles_of_the_tables(confidence: float, freedom: int, t: float) -> None:
    normal = NormalDist().inv_cdf((1 + confidence) / 2)
    assert widening(freedom + 1, confidence) == pytest.approx(sqrt((freedom + 1) / freedom) * t / normal, rel=1e-4)


def test_the_interval_is_widened_for_few_prompts_and_hardly_for_many() -> None:
    assert widening(12, 0.95) == pytest.approx(1.173, abs=1e-3)
    assert widening(60, 0.95) == pytest.approx(1.030, abs=1e-3)
    assert widening(10_000, 0.95) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("shape", ["normal", "heavy tails"])
def test_the_interval_of_twelve_prompts_holds_its_level(shape: str) -> None:
    rng, true, runs = np.random.default_rng(5), 0.03, 2000
    missed = short = 0
    for _ in range(runs):
        noise = rng.normal(size=12) if shape == "normal" else rng.standard_t(3, 12)
        champion = rng.normal(0.8, 0.1, 12)
        value, low, high = interval(champion + true + 0.05 * noise, champion)
        missed += not low <= true <= high
        without = [value + (end - value) / widening(12, 0.95) for end in (low, high)]  # the percentile interval
        short += not without[0] <= true <= without[1]
    assert 0.035 <= missed / runs <= 0.07
    assert short / runs >= 0.08


@pytest.mark.parametrize(("shift", "excludes"), [(0.0, False), (0.2, True), (-0.2, True)])
def test_the_interval_excludes_zero_only_for_a_real_difference(shift: float, excludes: bool) -> None:
    noise = np.random.default_rng(3).normal(0, 0.05, 12)
    value, low, high = interval(0.8 + shift + noise - noise.mean(), np.full(12, 0.8))
    assert value == pytest.approx(shift, abs=1e-9)
    assert low <= value <= high
    assert (low > 0 or high < 0) is excludes


def test_more_confidence_is_a_wider_interval() -> None:
    noise = np.random.default_rng(3).normal(0, 0.05, 12)
    _, low, high = interval(noise, np.zeros(12))
    _, lower, higher = interval(noise, np.zeros(12), 0.99)
    assert lower < low < high < higher


def test_differences_are_paired_by_prompt() -> None:
    hard_and_easy = np.linspace(0.1, 0.9, 12)  # prompts differ far more than the models do
    _, low, high = interval(hard_and_easy + 0.02, hard_and_easy)
    assert (low, high) == pytest.approx((0.02, 0.02))


def test_each_set_of_prompts_has_equal_weight_and_its_own_noise() -> None:
    noise = np.random.default_rng(3).normal(0, 0.05, 12)
    noise[10:] = 0.1
    sets = (PROMPTS[:10], PROMPTS[10:])
    value, low, high = paired_interval(
        values(noise), values(np.zeros(12)), sets, resamples=2000, confidence=0.95, seed=0
    )
    assert value == pytest.approx((noise[:10].mean() + 0.1) / 2)
    _, alone, top = paired_interval(
        values(noise), values(np.zeros(12)), sets[:1], resamples=2000, confidence=0.95, seed=0
    )
    assert high - low == pytest.approx((top - alone) / 2), "the set with equal differences adds no noise"


def test_seeds_are_averaged_and_further_ones_are_added() -> None:
    had: Values = {"a": (1.0, 2.0), "b": (4.0,)}
    assert mean(had) == pytest.approx(2.75)
    more = merged(had, {"a": (6.0,), "c": (9.0,)})
    assert more == {"a": (1.0, 2.0, 6.0), "b": (4.0,)}
    assert mean(more, ["a"]) == pytest.approx(3)
