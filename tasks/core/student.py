"""Student's t, as far as intervals of few values need it."""

import math
from functools import lru_cache
from statistics import NormalDist


@lru_cache(maxsize=64)
def widening(n: int, confidence: float) -> float:
    """How many times as wide as its percentile interval the bootstrap interval of the mean of n >= 2 values must be.

    The resamples of n values spread sqrt((n - 1) / n) too little, and the normal quantile that they follow is to be
    that of Student's t with n - 1 degrees of freedom (Hesterberg 2015, The American Statistician 69:371).
    """
    normal = NormalDist().inv_cdf((1 + confidence) / 2)
    return math.sqrt(n / (n - 1)) * quantile(confidence, n - 1) / normal


def quantile(confidence: float, freedom: int) -> float:
    """The t with P(-t < T < t) = confidence, for whole degrees of freedom."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, freedom) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _central(angle: float, freedom: int) -> float:
    """P(|T| < sqrt(freedom) * tan(angle)), Abramowitz & Stegun 26.7.3 and 26.7.4."""
    odd = freedom % 2
    total, term = 0.0, math.cos(angle) if odd else 1.0
    for power in range(1 + odd, freedom, 2):
        total += term
        term *= power / (power + 1) * math.cos(angle) ** 2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
