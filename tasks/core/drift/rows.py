"""Rows of embeddings as they come in: checked, grouped, capped, put in folds."""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from tasks.core.errors import BadEmbeddings

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def embeddings(name: str, values: npt.ArrayLike, dimension: int | None = None) -> Floats:
    """Return `values` as float32 [n, d] with rows of length one, or raise `BadEmbeddings` saying what is wrong."""
    rows = np.asarray(values)
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise BadEmbeddings(name, f"expected a float array of shape [n, d], got {rows.dtype} {list(rows.shape)}")
    if dimension is not None and rows.shape[1] != dimension:
        raise BadEmbeddings(name, f"expected dimension {dimension}, got {rows.shape[1]}", len(rows))
    _refuse(name, "NaN", np.isnan(rows).any(axis=1))
    _refuse(name, "Inf", np.isinf(rows).any(axis=1))
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    _refuse(name, "only zeros", norms == 0)
    return np.asarray(rows / norms[:, None], dtype=np.float32)


def _refuse(name: str, what: str, bad: Mask) -> None:
    if bad.any():
        raise BadEmbeddings(name, f"holds rows with {what}, the first is row {int(bad.argmax())}", int(bad.sum()))


def labels(name: str, values: npt.ArrayLike, rows: int) -> Ints:
    """Return `values` as int64 [rows] (unsigned hashes wrap around), or raise `BadEmbeddings`."""
    found = np.asarray(values)
    if found.shape != (rows,) or found.dtype.kind not in "iu":
        raise BadEmbeddings(name, f"expected integers of shape [{rows}], got {found.dtype} {list(found.shape)}")
    return found.astype(np.int64)


def group_ids(rows: Floats, groups: npt.ArrayLike | None) -> Ints:
    """Return int64 [n]: the groups given, or a hash of each row's bytes, so that one text stays one group."""
    if groups is not None:
        return labels("groups", groups, len(rows))
    digests = b"".join(blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def capped(groups: Ints, cap: int, rng: np.random.Generator) -> Ints:
    """Return the indices (ascending) of at most `cap` rows of each group, chosen at random."""
    shuffled = rng.permutation(len(groups))
    order = shuffled[np.argsort(groups[shuffled], kind="stable")]
    _, first, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, sizes)
    return np.sort(order[rank < cap])


def half_of_groups(groups: Ints, rng: np.random.Generator) -> Mask:
    """Return bool [n]: True for about half of the rows, every group wholly on one side."""
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permutation(len(sizes))
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    chosen[order] = np.cumsum(sizes[order]) <= len(groups) // 2
    return np.asarray(chosen[member])


def fold_of(groups: Ints, folds: int) -> Ints:
    """Return int64 [n]: each group's fold, the same in every process (splitmix64; Steele, Lea, Flood, OOPSLA 2014)."""
    z = groups.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((z ^ (z >> np.uint64(31))) % np.uint64(folds), dtype=np.int64)
