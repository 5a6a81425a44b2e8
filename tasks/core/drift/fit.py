"""Fitting a profile: split the reference, learn the feature map on A, keep B, measure the overdispersion."""

import logging

import numpy as np
import numpy.typing as npt

from tasks.core.drift.features import FeatureMap, fit_features
from tasks.core.drift.profile import DriftProfile, ProfileCard
from tasks.core.drift.rows import Floats, Ints, capped, embeddings, fold_of, group_ids, half_of_groups, labels
from tasks.core.drift.score import pooled_counts
from tasks.core.drift.spec import DEFAULT_SPEC, DriftSpec
from tasks.core.errors import ReferenceTooSmall

logger = logging.getLogger(__name__)
FEWEST_BLOCKS = 4
ROWS_A_BIN = 5
GOOD_B = 2000


def fit_profile(
    reference: npt.ArrayLike,
    *,
    encoder: str,
    groups: npt.ArrayLike | None = None,
    blocks: npt.ArrayLike | None = None,
    spec: DriftSpec = DEFAULT_SPEC,
    seed: int = 0,
) -> DriftProfile:
    """Return the profile of a reference, float32 [m, d], embedded by `encoder` (its hash).

    `groups` (int64 [m]) are sessions, or hashes of the text where there are none: they are capped as a window's are
    and never split. `blocks` (int64 [m]), days say, give phi; B holds half of each, so take them twice as large as the
    windows to be checked. Without four of them phi is 1, which trusts rows to be independent: where a session asks for
    one thing eight times that is false, and one clean window of 300 in twenty asks for a retrain. Raises
    `BadEmbeddings` and `ReferenceTooSmall`.
    """
    rows = embeddings("reference", reference)
    ids, rng = group_ids(rows, groups), np.random.default_rng(seed)
    kept = capped(ids, spec.session_cap, rng)
    if len(kept) < spec.min_reference:
        raise ReferenceTooSmall(len(kept), spec.min_reference)
    in_b = half_of_groups(ids[kept], rng)
    a, b = kept[~in_b], kept[in_b]
    features = _fit_on(rows[a], ids[a], spec, rng)
    phi = 1.0
    if blocks is not None:
        phi = overdispersion(features(rows[b]), ids[b], labels("blocks", blocks, len(rows))[b], features, spec)
    if len(b) < GOOD_B:
        logger.warning("drift reference: only %d rows to compare with, %d or more give a steadier PSI", len(b), GOOD_B)
    card = ProfileCard(
        encoder=encoder, spec=spec, seed=seed, dimension=rows.shape[1], rows_a=len(a), rows_b=len(b), phi=phi
    )
    return DriftProfile(card, features, rows[b], ids[b])


def _fit_on(rows: Floats, groups: Ints, spec: DriftSpec, rng: np.random.Generator) -> FeatureMap:
    right = half_of_groups(groups, rng)
    return fit_features(rows[~right], rows[right], spec.clusters, rng)


def overdispersion(features_b: Floats, groups: Ints, blocks: Ints, features: FeatureMap, spec: DriftSpec) -> float:
    """Return phi >= 1: each block of B replayed as a window against the rest of B, Pearson's X^2 over its mean.

    Takes features float32 [m, D] of B's rows, their groups and blocks int64 [m]. For independent rows the mean of X^2
    is (bins - 1)(1 + n/m), n rows in the block and m in the rest; phi is the mean ratio (McCullagh and Nelder 1989,
    4.5). Blocks with fewer than five rows a bin say nothing; with fewer than four that do, phi is 1.
    """
    ratios = []
    for block in np.unique(blocks):
        inside = blocks == block
        n, m = int(inside.sum()), int((~inside).sum())
        if min(n, m) < ROWS_A_BIN * spec.bins:
            continue
        fold = fold_of(groups[inside], spec.folds)
        counts = pooled_counts(features_b[inside], fold, features_b[~inside], features, spec=spec)
        expected = n / spec.bins
        ratios.append(float(np.sum((counts - expected) ** 2)) / expected / (spec.bins - 1) / (1 + n / m))
    return max(1.0, float(np.mean(ratios))) if len(ratios) >= FEWEST_BLOCKS else 1.0
