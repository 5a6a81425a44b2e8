"""The order of the pictures: a function of (seed, epoch)."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class Order:
    """Which pictures each step takes.

    An epoch has just as many steps as show every picture once; the places that are left over go to some twice. A
    picture's share of the places is its weight (systematic sampling: it gets that many, rounded up or down by
    chance). Pictures of one shape go together, so that a step needs few forward passes.
    """

    def __init__(self, weights: npt.NDArray[np.float64], shapes: list[tuple[int, ...]], batch: int, seed: int) -> None:
        """Weights float64 [n] that sum to 1, the shapes of the n pictures, pictures a step."""
        self.weights, self.batch, self.seed = weights, batch, seed
        kinds = {shape: number for number, shape in enumerate(sorted(set(shapes)))}
        self.kinds = np.array([kinds[shape] for shape in shapes])
        self.steps = -(-len(weights) // batch)  # of an epoch
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def rows(self, step: int) -> Rows:
        """The pictures of a step, which are counted from 1; int64 [batch]."""
        epoch, place = divmod(step - 1, self.steps)
        return np.asarray(self.epoch(epoch)[place])

    def _epoch(self, number: int) -> Rows:
        rng = np.random.default_rng([self.seed, number, 1])
        places = self.steps * self.batch
        shuffled = rng.permutation(len(self.weights))
        points = (rng.random() + np.arange(places)) / places
        edges = np.cumsum(self.weights[shuffled])
        drawn = rng.permutation(shuffled[np.searchsorted(edges / edges[-1], points, side="right")])
        turn = rng.permutation(self.kinds.max() + 1)
        together = drawn[np.argsort(turn[self.kinds[drawn]], kind="stable")]
        return np.asarray(rng.permutation(together.reshape(-1, self.batch)))
