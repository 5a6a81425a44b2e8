"""A small seeded k-means, so that the profile needs numpy and nothing else."""

import numpy as np

from tasks.core.drift.rows import Floats, Ints

MOST_ROWS = 8000
ROUNDS = 25


def nearest(rows: Floats, centroids: Floats) -> tuple[Ints, Floats]:
    """Return the index (int64 [n]) of each row's nearest centroid and its Euclidean distance (float32 [n])."""
    squared = np.sum(centroids**2, axis=1) - 2 * (rows @ centroids.T) + np.sum(rows**2, axis=1)[:, None]
    index = np.argmin(squared, axis=1)
    best = np.take_along_axis(squared, index[:, None], axis=1)[:, 0]
    return index, np.sqrt(np.maximum(best, 0))


def _plus_plus(rows: Floats, clusters: int, rng: np.random.Generator) -> Floats:
    """Pick starting centroids far apart (k-means++: Arthur and Vassilvitskii, SODA 2007)."""
    picked = [int(rng.integers(len(rows)))]
    closest = np.full(len(rows), np.inf)
    while len(picked) < clusters:
        closest = np.minimum(closest, np.sum((rows - rows[picked[-1]]) ** 2, axis=1))
        weights = closest + 1e-12
        picked.append(int(rng.choice(len(rows), p=weights / weights.sum())))
    return rows[picked]


def kmeans(rows: Floats, clusters: int, rng: np.random.Generator) -> Floats:
    """Return centroids float32 [clusters, d] by Lloyd's rounds over at most 8000 of the rows (float32 [n, d]).

    A cluster that loses all its rows keeps the centroid it had.
    """
    sample = rows if len(rows) <= MOST_ROWS else rows[np.sort(rng.choice(len(rows), MOST_ROWS, replace=False))]
    centroids = _plus_plus(sample, clusters, rng)
    for _ in range(ROUNDS):
        index, _ = nearest(sample, centroids)
        member = np.eye(clusters, dtype=np.float32)[index]
        sizes = member.sum(axis=0)[:, None]
        moved = np.where(sizes > 0, member.T @ sample / np.maximum(sizes, 1), centroids).astype(np.float32)
        if np.allclose(moved, centroids, atol=1e-6):
            break
        centroids = moved
    return centroids
