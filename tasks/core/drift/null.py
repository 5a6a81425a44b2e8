"""What the statistic does when nothing has drifted, by Monte Carlo, kept on disk."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from tasks.core.drift.rows import Floats, Ints
from tasks.core.drift.score import psi

PER_OCTAVE = 12
GRID = np.unique(np.round(2.0 ** (np.arange(31 * PER_OCTAVE) / PER_OCTAVE)).astype(np.int64))
EXACT_TAIL = 8192
BODY = 1024


def on_grid(size: float) -> int:
    """Return the largest grid size that is no larger than `size` (at least 1): rounding down errs to the quiet side."""
    return int(GRID[max(int(np.searchsorted(GRID, size, side="right")) - 1, 0)])


@dataclass(frozen=True)
class NullTable:
    """The null distribution of the raw PSI for a window of n_eff rows and a reference of reference_eff.

    `values` (float32, ascending) are some of the draws and `ranks` (int64) their places among all of them: every draw
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
    n_eff: float, reference_eff: float, *, bins: int = 10, draws: int = 400_000, cache: Path | None = None
) -> NullTable:
    """Return the table for these sizes, rounded down to the grid: read from the folder `cache`, or drawn and kept.

    The draws depend on the rounded sizes, the bins and the number of draws alone, so one folder serves all profiles.
    """
    key = (on_grid(n_eff), on_grid(reference_eff), bins, draws)
    if cache is None:
        return _draw(*key)
    path = cache / "psi-null-v1-n{}-m{}-b{}-d{}.npz".format(*key)
    table = _read(path, key)
    if table is None:
        table = _draw(*key)
        _write(path, table)
    return table


def _draw(n_eff: int, reference_eff: int, bins: int, draws: int) -> NullTable:
    """Draw the shares that B's quantile bins truly hold (Dirichlet, as spacings do), then a window from them."""
    rng = np.random.default_rng([n_eff, reference_eff, bins, draws])
    shares = rng.dirichlet(np.full(bins, reference_eff / bins), draws)
    found = np.sort(psi(rng.multinomial(n_eff, shares)))
    ranks = np.union1d(np.arange(0, draws, max(draws // BODY, 1)), np.arange(max(draws - EXACT_TAIL, 0), draws))
    return NullTable(
        n_eff, reference_eff, bins, draws, float(found.mean()), found[ranks].astype(np.float32), ranks.astype(np.int64)
    )


def _read(path: Path, key: tuple[int, int, int, int]) -> NullTable | None:
    """Read a table; None where there is none, or where what lies there is no table (a disk that filled up)."""
    try:
        with np.load(path, allow_pickle=False) as held:
            return NullTable(*key, float(held["mean"]), held["values"], held["ranks"])
    except (FileNotFoundError, zipfile.BadZipFile, EOFError, KeyError, ValueError):
        return None


def _write(path: Path, table: NullTable) -> None:
    """Write beside and rename, so that a reader never meets half a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    with part.open("wb") as file:
        np.savez(file, mean=np.float64(table.mean), values=table.values, ranks=table.ranks)
    part.replace(path)
