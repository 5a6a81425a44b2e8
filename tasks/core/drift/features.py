"""The feature map of the detector: the row, its cluster by a seeded k-means, and its distance from the centroid."""

from dataclasses import dataclass

import numpy as np

from tasks.core.drift.rows import Doubles, Floats, Ints, Mask

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


CLUSTER_WEIGHT = 0.3
DISTANCE_WEIGHT = 0.3
SQUARE_WEIGHT = 0.15
LEAST_RIDGE = 1e-6


@dataclass(frozen=True)
class Placed:
    """Rows (float32 [n, d]) with their cluster (int64 [n]) and u, the standardised distance to its centroid."""

    rows: Floats
    cluster: Ints
    u: Floats

    def __getitem__(self, which: Mask) -> "Placed":
        return Placed(self.rows[which], self.cluster[which], self.u[which])

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class FeatureMap:
    """f(x) = [x, 0.3 onehot(cluster), 0.3 u, 0.15 u^2], with its mean and ridge precision over the reference.

    Shapes, all float32, with D = d + clusters + 2: centroids [clusters, d], distance [2] (the mean and the deviation
    by which u is standardised), mean [D], precision [D, D]. f itself is [n, D] and rarely needed as a whole.
    """

    centroids: Floats
    distance: Floats
    mean: Floats
    precision: Floats

    def place(self, rows: Floats) -> Placed:
        """Find the cluster and u of each row."""
        return _place(rows, self.centroids, self.distance)

    def project(self, placed: Placed, directions: Floats) -> Floats:
        """Return f(rows) . directions, float32 [n, k], of directions float32 [D, k]."""
        d = self.centroids.shape[1]
        found = placed.rows @ directions[:d] + CLUSTER_WEIGHT * directions[d:-2][placed.cluster]
        u = placed.u[:, None]
        return np.asarray(found + DISTANCE_WEIGHT * u * directions[-2] + SQUARE_WEIGHT * u**2 * directions[-1])

    def direction(self, mean: Doubles) -> Floats:
        """Return P (mean - mean of A), float32 [D]: the direction in which a window with this mean has moved."""
        return np.asarray(self.precision @ (mean - self.mean), dtype=np.float32)


def _place(rows: Floats, centroids: Floats, distance: Floats) -> Placed:
    cluster, far = nearest(rows, centroids)
    return Placed(rows, cluster, (far - distance[0]) / distance[1])


def _features(placed: Placed, clusters: int) -> Floats:
    onehot = np.eye(clusters, dtype=np.float32)[placed.cluster]
    u = placed.u[:, None]
    parts = [placed.rows, CLUSTER_WEIGHT * onehot, DISTANCE_WEIGHT * u, SQUARE_WEIGHT * u**2]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def fit_features(left: Floats, right: Floats, clusters: int, rng: np.random.Generator) -> FeatureMap:
    """Fit clusters on `left` and all else on `right` (float32 [n, d] each), whose rows did not move a centroid.

    P = inv(S + tr(S)/D I), S the covariance of f over `right`: half the weight goes to a multiple of the identity
    (Ledoit and Wolf 2004 with a fixed intensity), so that P exists for any number of rows.
    """
    centroids = kmeans(left, clusters, rng)
    _, far = nearest(right, centroids)
    distance = np.array([far.mean(), max(float(far.std()), LEAST_RIDGE)], dtype=np.float32)
    found = _features(_place(right, centroids, distance), clusters).astype(np.float64)
    spread = np.cov(found, rowvar=False)
    ridge = max(float(np.trace(spread)) / len(spread), LEAST_RIDGE)
    precision = np.linalg.inv(spread + ridge * np.eye(len(spread)))
    return FeatureMap(centroids, distance, found.mean(axis=0).astype(np.float32), precision.astype(np.float32))
