"""The statistic: a window's rows counted in the reference's bins, along directions they had no part in."""

import math

import numpy as np
import numpy.typing as npt

from tasks.core.drift.features import FeatureMap
from tasks.core.drift.rows import Floats, Ints
from tasks.core.drift.spec import DriftSpec

Doubles = npt.NDArray[np.float64]
JITTER = 1e-3


def cross_fitted_directions(window: Floats, fold: Ints, folds: int, features: FeatureMap) -> Floats:
    """Return float32 [D, folds]: for each fold the direction of all the window's other rows (features [n, D]).

    A fold with no other rows has no direction: zeros, along which all rows are alike.
    """
    found = np.zeros((window.shape[1], folds), dtype=np.float32)
    for k in range(folds):
        others = window[fold != k]
        if len(others):
            found[:, k] = features.direction(others.mean(axis=0, dtype=np.float64))
    return found


def bin_counts(reference: Floats, window: Floats, bins: int, rng: np.random.Generator) -> Ints:
    """Count the window's scores (float32 [n]) in the quantile bins of the reference's (float32 [m]): int64 [bins].

    The outer bins are open, so nothing falls out. The jitter spreads a tie over the bins that it straddles; it is wide
    enough to hide what rounding makes of equal rows.
    """
    width = JITTER * float(reference.std()) + 1e-6 * float(np.abs(reference).max()) + 1e-12
    known = reference + rng.uniform(-width, width, len(reference))
    asked = window + rng.uniform(-width, width, len(window))
    edges = np.quantile(known, np.arange(1, bins) / bins)
    return np.bincount(np.searchsorted(edges, asked), minlength=bins).astype(np.int64)


def pooled_counts(
    window: Floats, fold: Ints, reference: Floats, features: FeatureMap, *, spec: DriftSpec, seed: int = 0
) -> Ints:
    """Return int64 [bins]: each fold's rows counted along the others' direction, summed over the folds.

    Takes features float32 [n, D] of the window and [m, D] of B, and the fold int64 [n] of each row. Cross-fitting
    keeps a row from being counted along a direction that leans towards it (Chernozhukov et al. 2018).
    """
    rng, counts = np.random.default_rng(seed), np.zeros(spec.bins, dtype=np.int64)
    directions = cross_fitted_directions(window, fold, spec.folds, features)
    known, asked = reference @ directions, window @ directions
    for k in range(spec.folds):
        counts += bin_counts(known[:, k], asked[fold == k, k], spec.bins, rng)
    return counts


def psi(counts: npt.NDArray[np.int64] | Doubles) -> Doubles:
    """Return the PSI against equal shares of counts [..., bins], each raised by Jeffreys' 0.5: float64 [...].

    PSI = sum (q - 1/b) ln(q b), the symmetric Kullback-Leibler divergence (Jeffreys 1946; Siddiqi 2006).
    """
    bins = counts.shape[-1]
    share = (counts + 0.5) / (counts.sum(axis=-1, keepdims=True) + 0.5 * bins)
    return np.asarray(np.sum((share - 1 / bins) * np.log(share * bins), axis=-1))


def share_to_psi(share: float, bins: int = 10) -> float:
    """Return the PSI of a window of which `share` is wholly new, so that it falls in the last bin.

    With ten bins 0.9 x [ln(1 + 9x) - ln(1 - x)]: 0.1 is 12.5 % new traffic, 0.2 is 18.6 %.
    """
    return (bins - 1) / bins * share * (math.log1p((bins - 1) * share) - math.log1p(-share))


def new_traffic_share(value: float, bins: int = 10) -> float:
    """Return the share of wholly new traffic that would give this PSI (bisection); 0 for a PSI of zero or below."""
    low, high = 0.0, 1.0 - 1e-12
    if value <= 0:
        return low
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share_to_psi(middle, bins) < value else (low, middle)
    return low
