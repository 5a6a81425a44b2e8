"""The feature map along which drift is looked for: where a row lies, in which cluster, how far out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.core.drift.kmeans import kmeans, nearest
from tasks.core.drift.rows import Floats

CLUSTER_WEIGHT = 0.3
DISTANCE_WEIGHT = 0.3
SQUARE_WEIGHT = 0.15
LEAST_RIDGE = 1e-6


@dataclass(frozen=True)
class FeatureMap:
    """f(x) = [x, 0.3 onehot(cluster), 0.3 u, 0.15 u^2], with its mean and ridge precision over the reference.

    Shapes, all float32, with D = d + clusters + 2: centroids [clusters, d], distance [2] (the mean and the deviation
    by which u is standardised), mean [D], precision [D, D].
    """

    centroids: Floats
    distance: Floats
    mean: Floats
    precision: Floats

    def __call__(self, rows: Floats) -> Floats:
        """Return the features, float32 [n, D], of rows float32 [n, d]."""
        return _features(rows, self.centroids, self.distance)

    def direction(self, mean: npt.NDArray[np.float64]) -> Floats:
        """Return P (mean - mean of A), float32 [D]: the direction in which a window with this mean has moved."""
        return np.asarray(self.precision @ (mean - self.mean), dtype=np.float32)


def _features(rows: Floats, centroids: Floats, distance: Floats) -> Floats:
    index, far = nearest(rows, centroids)
    u = ((far - distance[0]) / distance[1])[:, None]
    onehot = np.eye(len(centroids), dtype=np.float32)[index]
    parts = [rows, CLUSTER_WEIGHT * onehot, DISTANCE_WEIGHT * u, SQUARE_WEIGHT * u**2]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def fit_features(left: Floats, right: Floats, clusters: int, rng: np.random.Generator) -> FeatureMap:
    """Fit clusters on `left`, all else on `right` (float32 [n, d] each), where no centroid has been pulled to a row.

    P = inv(S + tr(S)/D I), S the covariance of f over `right`: half the weight goes to a multiple of the identity
    (Ledoit and Wolf 2004 with a fixed intensity), so that P exists however few rows there are.
    """
    centroids = kmeans(left, clusters, rng)
    _, far = nearest(right, centroids)
    distance = np.array([far.mean(), max(float(far.std()), LEAST_RIDGE)], dtype=np.float32)
    found = _features(right, centroids, distance).astype(np.float64)
    spread = np.cov(found, rowvar=False)
    ridge = max(float(np.trace(spread)) / len(spread), LEAST_RIDGE)
    precision = np.linalg.inv(spread + ridge * np.eye(len(spread)))
    return FeatureMap(centroids, distance, found.mean(axis=0).astype(np.float32), precision.astype(np.float32))
