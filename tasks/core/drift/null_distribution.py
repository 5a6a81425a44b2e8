"""The null distribution of the statistic, by Monte Carlo, cached on disk."""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from uuid import uuid4

import numpy as np

from tasks.core.drift.psi import psi
from tasks.core.drift.rows import Doubles, Floats, Ints

PER_OCTAVE = 12
GRID = np.unique(np.round(2.0 ** (np.arange(31 * PER_OCTAVE) / PER_OCTAVE)).astype(np.int64))
EXACT_TAIL = 8192
BODY = 1024


def on_grid(size: float) -> int:
    """Return the largest grid size that is no larger than `size` (at least 1): rounding down is conservative."""
    return int(GRID[max(int(np.searchsorted(GRID, size, side="right")) - 1, 0)])


@dataclass(frozen=True)
class NullTable:
    """The null distribution of the raw PSI for a window of n_eff rows and a reference of reference_eff.

    `values` (float32, ascending) are some of the draws and `ranks` (int64) their ranks among all of them: every draw
    of the upper tail (2 % of 400,000), about a thousand of the rest.
    """

    n_eff: int
    reference_eff: int
    bins: int
    draws: int
    mean: float
    values: Floats
    ranks: Ints

    def p_value(self, raw: float) -> float:
        """Return (k+1)/(D+1), k the draws of at least `raw`: exact in the tail, at most 0.1 % too large elsewhere.

        The +1 counts the window itself (Davison and Hinkley 1997, 4.2), so that p is never zero.
        """
        below = int(np.searchsorted(self.values, np.float32(raw), side="left"))
        at_least = self.draws - 1 - int(self.ranks[below - 1]) if below else self.draws
        return (at_least + 1) / (self.draws + 1)


def null_statistics(
    n_eff: float,
    reference_eff: float,
    *,
    bins: int = 10,
    folds: int = 5,
    draws: int = 400_000,
    cache: Path | None = None,
) -> NullTable:
    """Return the table for these sizes, rounded down to the grid: read from the folder `cache`, or drawn and stored.

    The draws depend only on the rounded sizes, the bins, the folds and the number of draws, so all profiles share one
    folder.
    """
    key = (on_grid(n_eff), on_grid(reference_eff), bins, draws)
    if cache is None:
        return _draw(*key, folds)
    path = cache / "psi-null-v2-n{}-m{}-b{}-d{}-f{}.npz".format(*key, folds)
    table = _read(path, key)
    if table is None:
        table = _draw(*key, folds)
        _write(path, table)
    return table


def _draw(n_eff: int, reference_eff: int, bins: int, draws: int, folds: int) -> NullTable:
    """Draw the true shares of B's quantile bins (Dirichlet, as for spacings), then a window from them.

    In each pair of folds, either is counted along a direction to which the other contributes, so the counts' linear
    component varies more than that of independent counts (see `shared_variance`): the shares are tilted.
    """
    rng = np.random.default_rng([n_eff, reference_eff, bins, draws, folds])
    more = math.sqrt((shared_variance(n_eff, reference_eff, folds) - 1) * bins / n_eff)
    tilt = np.exp(rng.normal(0, more, draws)[:, None] * linear_contrast(bins))
    shares = rng.dirichlet(np.full(bins, reference_eff / bins), draws) * tilt
    found = np.sort(psi(rng.multinomial(n_eff, shares / shares.sum(axis=1, keepdims=True))))
    ranks = np.union1d(np.arange(0, draws, max(draws // BODY, 1)), np.arange(max(draws - EXACT_TAIL, 0), draws))
    return NullTable(
        n_eff, reference_eff, bins, draws, float(found.mean()), found[ranks].astype(np.float32), ranks.astype(np.int64)
    )


def shared_variance(n_eff: float, reference_eff: float, folds: int) -> float:
    """Return the variance ratio of the pooled counts' linear component, between 1 and 2: (2g + r) / (g + r).

    Let a_k be the mean noise of fold k, of n/K rows, and e that of the m_A rows on which the reference's mean was
    fitted. Fold k is counted along w_k = mean of the other a_j - e, and sum a_k w_k holds each product a_j a_k twice:
    its variance is to that of independent folds as 2g + r to g + r, with g = K/(K - 1), r = n/m_A, in many dimensions.
    m_A is half of A, and A as large as B.
    """
    g, r = folds / (folds - 1), 2 * n_eff / reference_eff
    return (2 * g + r) / (g + r)


def linear_contrast(bins: int) -> Doubles:
    """Return float64 [bins] of length one and sum zero: the mean normal score of each quantile bin."""
    normal = NormalDist()
    edges = [normal.inv_cdf(k / bins) for k in range(1, bins)]
    density = np.array([0.0, *(normal.pdf(edge) for edge in edges), 0.0])
    contrast = density[:-1] - density[1:]
    return np.asarray(contrast / np.linalg.norm(contrast))


def _read(path: Path, key: tuple[int, int, int, int]) -> NullTable | None:
    """Read a table; None if it is missing or damaged, as after a full disk."""
    try:
        with np.load(path, allow_pickle=False) as held:
            return NullTable(*key, float(held["mean"]), held["values"], held["ranks"])
    except (FileNotFoundError, zipfile.BadZipFile, EOFError, KeyError, ValueError):
        return None


def _write(path: Path, table: NullTable) -> None:
    """Write to a temporary file and rename it, so that a reader never sees a partial table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    with part.open("wb") as file:
        np.savez(file, mean=np.float64(table.mean), values=table.values, ranks=table.ranks)
    part.replace(path)
