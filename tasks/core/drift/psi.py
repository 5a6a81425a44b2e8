"""The statistic: a window's rows counted in the reference's bins along cross-fitted directions."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.core.config.drift import DriftSpec
from tasks.core.drift.features import FeatureMap, Placed
from tasks.core.drift.rows import Doubles, Floats, Ints
from tasks.core.drift.window_state import WindowState, placed_state

JITTER = 1e-3


@dataclass(frozen=True)
class Ruler:
    """Scores a window's rows: for each fold a direction, and the distribution of the reference B along it.

    directions [D, folds], edges [folds, bins - 1] between the quantile bins, width [folds] of the jitter, centre and
    scale [folds] (B's mean and deviation), known [folds, m] B's own scores in deviations.
    """

    directions: Floats
    edges: Doubles
    width: Doubles
    centre: Doubles
    scale: Doubles
    known: Doubles


def cross_fitted_directions(state: WindowState, features: FeatureMap) -> Floats:
    """Return float32 [D, folds]: for each fold the direction of all the window's other rows.

    Cross-fitting keeps a row from being counted along a direction that it contributed to (Chernozhukov et al. 2018).
    A fold with no other rows has the direction zero, along which all rows score the same.
    """
    found = np.zeros((len(features.mean), len(state.counts)), dtype=np.float32)
    for k in range(len(state.counts)):
        mean = state.mean_without(k)
        if mean is not None:
            found[:, k] = features.direction(mean)
    return found


def make_ruler(
    state: WindowState, reference: Placed, features: FeatureMap, bins: int, rng: np.random.Generator
) -> Ruler:
    """Score B along the window's directions. The jitter spreads a tie over the bins that it straddles.

    It is wider than the rounding error of equal rows, and far narrower than a bin.
    """
    directions = cross_fitted_directions(state, features)
    scores = features.project(reference, directions).T.astype(np.float64)
    scale = scores.std(axis=1)
    width = JITTER * scale + 1e-6 * np.abs(scores).max(axis=1) + 1e-12
    spread = scores + rng.uniform(-1, 1, scores.shape) * width[:, None]
    edges = np.quantile(spread, np.arange(1, bins) / bins, axis=1).T
    centre, scale = scores.mean(axis=1), np.maximum(scale, width)
    return Ruler(directions, edges, width, centre, scale, (scores - centre[:, None]) / scale[:, None])


def measure(
    ruler: Ruler, placed: Placed, fold: Ints, features: FeatureMap, rng: np.random.Generator
) -> tuple[Ints, Floats]:
    """Return the bin (int64 [n]) of each row in its own fold's ruler, and its score in B's deviations (float32 [n]).

    The outer bins are open, so every row has one.
    """
    score = np.take_along_axis(features.project(placed, ruler.directions), fold[:, None], axis=1)[:, 0]
    asked = score + rng.uniform(-1, 1, len(score)) * ruler.width[fold]
    found = np.zeros(len(score), dtype=np.int64)
    for k in range(len(ruler.edges)):
        mine = fold == k
        found[mine] = np.searchsorted(ruler.edges[k], asked[mine])
    return found, ((score - ruler.centre[fold]) / ruler.scale[fold]).astype(np.float32)


def pooled_counts(
    window: Placed, fold: Ints, reference: Placed, features: FeatureMap, *, spec: DriftSpec, seed: int = 0
) -> Ints:
    """Return int64 [bins]: each fold's rows counted along the others' direction, summed over the folds."""
    rng = np.random.default_rng(seed)
    state = placed_state(window, fold, WindowState.empty(features, spec.folds))
    ruler = make_ruler(state, reference, features, spec.bins, rng)
    return np.bincount(measure(ruler, window, fold, features, rng)[0], minlength=spec.bins)


def psi(counts: npt.NDArray[np.int64] | Doubles) -> Doubles:
    """Return the PSI against equal shares of counts [..., bins], each raised by Jeffreys' 0.5: float64 [...].

    PSI = sum (q - 1/b) ln(q b), the symmetric Kullback-Leibler divergence (Jeffreys 1946; Siddiqi 2006).
    """
    bins = counts.shape[-1]
    share = (counts + 0.5) / (counts.sum(axis=-1, keepdims=True) + 0.5 * bins)
    return np.asarray(np.sum((share - 1 / bins) * np.log(share * bins), axis=-1))


def share_to_psi(share: float, bins: int = 10) -> float:
    """Return the PSI of a window of which `share` is wholly new and falls in the last bin.

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
