"""Fitting a profile: split the reference, learn the feature map on A, keep B, measure the overdispersion."""

import logging
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.core.config.drift import DEFAULT_SPEC, DriftSpec
from tasks.core.drift.errors import BadEmbeddings, ReferenceTooSmall
from tasks.core.drift.features import FeatureMap, Placed, fit_features
from tasks.core.drift.groups import Seen, grouped
from tasks.core.drift.profile import DriftProfile, ProfileCard
from tasks.core.drift.psi import pooled_counts
from tasks.core.drift.rows import (
    Floats,
    Ints,
    Rows,
    constant_columns,
    fold_of,
    half_of_groups,
    labels,
    matrix,
    row_hashes,
    unit_rows,
)

logger = logging.getLogger(__name__)
FEWEST = 200  # rows of a reference
FEWEST_DISTINCT = 20
FEWEST_BLOCKS = 4
ROWS_A_STRETCH, MOST_STRETCHES = 100, 40
SHUFFLES = 3
ROWS_A_BIN = 5
GOOD_B = 2000


def fit_profile(
    reference: Rows,
    *,
    groups: npt.ArrayLike | None = None,
    blocks: npt.ArrayLike | None = None,
    texts: Sequence[str] | None = None,
    spec: DriftSpec = DEFAULT_SPEC,
    seed: int = 0,
    encoder: str = "",
) -> DriftProfile:
    """Return the profile of a reference, float32 [m, d] (array, memory map or iterable of chunks).

    `groups` (int64 [m]) are sessions: capped like a window's and never split; without them equal rows are
    one group (see `grouped`). B is replayed in stretches of whole groups, in the order of the rows, and in `blocks`
    (int64 [m]; days where windows are days) if they are given: the larger overdispersion is phi, the number of rows
    per independent row. `texts` are the prompts, for explanations; `encoder` identifies their encoder. With fewer than
    `spec.min_reference` rows the profile is provisional: it never requests a retrain. Raises `BadEmbeddings` and
    `ReferenceTooSmall` (under 200).
    """
    rows = matrix("reference", reference)
    rng = np.random.default_rng(seed)
    hashes = row_hashes("reference", rows)
    seen = Seen.of(hashes)
    ids, allowed = grouped(hashes, groups, spec.session_cap, seen, rng)
    kept = _sampled(ids, allowed, spec.max_reference, rng)
    if len(kept) < FEWEST:
        raise ReferenceTooSmall(len(kept), FEWEST)
    if len(seen.ids) < FEWEST_DISTINCT:
        raise ReferenceTooSmall(len(seen.ids), FEWEST_DISTINCT, "distinct reference rows")
    if texts is not None and len(texts) != len(rows):
        raise BadEmbeddings("texts", f"expected {len(rows)}, got {len(texts)}")
    in_b = half_of_groups(ids[kept], rng)
    a, b = kept[~in_b], kept[in_b]
    features = _fit_on(unit_rows("reference", rows, a), ids[a], spec, rng)
    known = unit_rows("reference", rows, b)
    replays = [stretches(ids[b])] + ([] if blocks is None else [labels("blocks", blocks, len(rows))[b]])
    placed = features.place(known)
    phi = max(overdispersion(placed, ids[b], replay, features, spec, rng) for replay in replays)
    card = ProfileCard(
        encoder=encoder,
        spec=spec,
        seed=seed,
        dimension=rows.shape[1],
        rows_a=len(a),
        rows_b=len(b),
        phi=phi,
        seen_rows=seen.rows,
        texts_seen=len(seen.ids),
    )
    if not card.provisional and len(b) < GOOD_B:
        logger.warning("drift reference: only %d rows to compare with, %d or more give a steadier PSI", len(b), GOOD_B)
    prompts = tuple(texts[i] for i in b) if texts is not None else ()
    return DriftProfile(card, features, known, ids[b], constant_columns(rows, kept), seen, prompts)


def _sampled(ids: Ints, kept: Ints, most: int, rng: np.random.Generator) -> Ints:
    """Return at most about `most` of the kept rows, of whole groups."""
    if len(kept) <= most:
        return kept
    _, member = np.unique(ids[kept], return_inverse=True)
    rank = rng.permutation(int(member.max()) + 1)[member]
    sizes = np.bincount(rank)
    return kept[np.cumsum(sizes)[rank] <= most]


def _fit_on(rows: Floats, groups: Ints, spec: DriftSpec, rng: np.random.Generator) -> FeatureMap:
    right = half_of_groups(groups, rng)
    return fit_features(rows[~right], rows[right], spec.clusters, rng)


def stretches(groups: Ints) -> Ints:
    """Return int64 [m]: for each row its block of consecutive whole groups, of about a hundred rows or more."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    count = min(max(len(groups) // ROWS_A_STRETCH, 1), MOST_STRETCHES)
    began = first[member]
    place = np.empty(len(groups), dtype=np.int64)
    place[np.argsort(began, kind="stable")] = np.arange(len(groups)) * count // len(groups)
    return place[began]


def overdispersion(
    known: Placed, groups: Ints, blocks: Ints, features: FeatureMap, spec: DriftSpec, rng: np.random.Generator
) -> float:
    """Return phi >= 1: the ratio of Pearson's X^2 of B's blocks, each replayed as a window against the rest of B, to
    that of as many rows taken at random (McCullagh and Nelder 1989, 4.5, with the expectation replayed too: windows of
    a few dozen rows share so much of their directions that it is not bins - 1).

    Takes B's rows, their groups and blocks int64 [m]. Blocks with fewer than five rows a bin are ignored; with fewer
    than four others, or when the difference is within three standard errors, phi is 1.
    """
    replayed = _replayed(known, groups, blocks, features, spec)
    if len(replayed) < FEWEST_BLOCKS:
        return 1.0
    mixed = [
        ratio for _ in range(SHUFFLES) for ratio in _replayed(known, groups, rng.permutation(blocks), features, spec)
    ]
    excess = float(np.mean(replayed) - np.mean(mixed))
    noise = math.sqrt(np.var(mixed, ddof=1) * (1 / len(replayed) + 1 / len(mixed)))
    return float(np.mean(replayed) / np.mean(mixed)) if excess > 3 * noise else 1.0


def _replayed(known: Placed, groups: Ints, blocks: Ints, features: FeatureMap, spec: DriftSpec) -> list[float]:
    """Pearson's X^2 of each block over that of independent counts, (bins - 1)(1 + n/m) for n rows and m others."""
    ratios = []
    for block in np.unique(blocks):
        inside = blocks == block
        n, m = int(inside.sum()), int((~inside).sum())
        if min(n, m) < ROWS_A_BIN * spec.bins:
            continue
        fold = fold_of(groups[inside], spec.folds)
        counts = pooled_counts(known[inside], fold, known[~inside], features, spec=spec)
        expected = n / spec.bins
        ratios.append(float(np.sum((counts - expected) ** 2)) / expected / (spec.bins - 1) / (1 + n / m))
    return ratios
