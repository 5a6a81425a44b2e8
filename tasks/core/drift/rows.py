"""Input rows of embeddings: validated, read in chunks, grouped, capped and assigned to folds."""

from collections.abc import Iterable, Iterator
from tempfile import TemporaryFile

import numpy as np
import numpy.typing as npt

from tasks.core.drift.errors import BadEmbeddings

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.floating] | Iterable[npt.NDArray[np.floating]]
Matrix = npt.NDArray[np.floating]

CHUNK = 2048  # rows processed together: few enough for a processor's cache
WIDEST = 8  # bytes of a float
ALMOST = 1e-6  # rounding error of a unit length
NOISE = 1e-6  # of a usual column's range: one that varies by less is constant


def matrix(name: str, values: Rows, dimension: int | None = None) -> Matrix:
    """Return `values` as one float matrix [n, d] that can be read twice, or raise `BadEmbeddings`.

    An array or a memory map is used as it is. An iterable of chunks [k, d] is written to a temporary file, which is
    memory-mapped and deleted with the matrix: a generator of a million rows needs disk, not memory.
    """
    if not (hasattr(values, "__array__") or isinstance(values, Iterable)):
        raise BadEmbeddings(name, f"expected an array [n, d] or chunks of one, got {type(values).__name__}")
    found = np.asanyarray(values) if hasattr(values, "__array__") else _spooled(name, values, dimension)
    if found.ndim == 1 and not len(found):
        found = np.zeros((0, dimension or 0), dtype=np.float32)
    if found.dtype.itemsize > WIDEST:
        found = found.astype(np.float64)
    if found.ndim != 2 or found.dtype.kind != "f":
        raise BadEmbeddings(name, f"expected a float array of shape [n, d], got {found.dtype} {list(found.shape)}")
    if dimension is not None and found.shape[1] != dimension:
        raise BadEmbeddings(name, f"expected dimension {dimension}, got {found.shape[1]}", len(found))
    return found


def _spooled(name: str, chunks: Iterable[npt.NDArray[np.floating]], dimension: int | None) -> Matrix:
    rows, wide = 0, dimension
    with TemporaryFile() as file:
        for given in chunks:
            chunk = np.asarray(given)
            if chunk.ndim != 2 or chunk.dtype.kind != "f" or (wide is not None and chunk.shape[1] != wide):
                wanted = f"float chunks of shape [k, {wide or 'd'}]"
                raise BadEmbeddings(name, f"expected {wanted}, got {chunk.dtype} {list(chunk.shape)}", rows)
            wide, rows = chunk.shape[1], rows + len(chunk)
            file.write(np.ascontiguousarray(chunk, dtype=np.float32).tobytes())
        file.flush()
        if not rows:
            return np.zeros((0, wide or 0), dtype=np.float32)
        return np.memmap(file, dtype=np.float32, mode="r", shape=(rows, wide or 0))


def chunks(name: str, values: Matrix, kept: Ints | None = None) -> Iterator[tuple[slice, Floats]]:
    """Yield the rows, float32 [k, d] with length one, chunk by chunk, each with its slice of `kept`.

    Raises `BadEmbeddings` for rows with NaN or Inf and for rows of zeros, which have no direction.
    """
    count = len(values) if kept is None else len(kept)
    for start in range(0, count, CHUNK):
        place = slice(start, min(start + CHUNK, count))
        numbers = np.arange(place.start, place.stop) if kept is None else kept[place]
        yield place, _unit_rows(name, values[place] if kept is None else values[numbers], numbers)


def _unit_rows(name: str, values: Matrix, numbers: Ints) -> Floats:
    rows = np.asarray(values)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    if not (np.isfinite(norms) & (norms > 0)).all():
        for what, bad in (("NaN", np.isnan(norms)), ("Inf", np.isinf(norms)), ("only zeros", norms == 0)):
            if bad.any():
                at = int(numbers[bad.argmax()])
                raise BadEmbeddings(name, f"holds rows with {what}, the first is row {at}", int(bad.sum()))
    unit = rows.astype(np.float32, copy=False)
    return unit if np.abs(norms - 1).max(initial=0) < ALMOST else unit / norms.astype(np.float32)[:, None]


def unit_rows(name: str, values: Matrix, kept: Ints) -> Floats:
    """Return the rows `kept`, float32 [k, d] with length one; raises `BadEmbeddings`."""
    return _unit_rows(name, values[kept], kept)


def labels(name: str, values: npt.ArrayLike, rows: int) -> Ints:
    """Return `values` as int64 [rows] (unsigned hashes wrap around), or raise `BadEmbeddings`."""
    found = np.asarray(values)
    if found.shape != (rows,) or (rows and found.dtype.kind not in "iu"):
        raise BadEmbeddings(name, f"expected integers of shape [{rows}], got {found.dtype} {list(found.shape)}")
    return found.astype(np.int64)


def row_hashes(name: str, values: Matrix) -> Ints:
    """Return int64 [n]: a hash of each row's bits, so that equal texts are equal; odd multipliers, sums mod 2^64."""
    found = [np.zeros(0, dtype=np.int64)]
    for _, rows in chunks(name, values):
        bits = np.ascontiguousarray(rows).view(np.uint32).astype(np.uint64)
        odd = mixed(np.arange(rows.shape[1], dtype=np.uint64)) | np.uint64(1)
        found.append(mixed((bits * odd).sum(axis=1, dtype=np.uint64)).view(np.int64))
    return np.concatenate(found)


def constant_columns(values: Matrix, kept: Ints) -> Mask:
    """Return bool [d]: the columns whose range, over the rows `kept`, is less than a millionth of the mean range.

    Where the mean range is zero all columns are constant. One row has no constant column.
    """
    if len(kept) < 2:
        return np.zeros(values.shape[1], dtype=np.bool_)
    low, high = np.full(values.shape[1], np.inf), np.full(values.shape[1], -np.inf)
    for start in range(0, len(kept), CHUNK):
        rows = values[kept[start : start + CHUNK]]
        low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
    reach = high - low
    return np.asarray(reach <= NOISE * reach.mean())


def capped(groups: Ints, cap: int | Ints, rng: np.random.Generator) -> Ints:
    """Return the indices (ascending) of at most `cap` (one for all, or int64 [n]) rows of each group, at random."""
    shuffled = rng.permutation(len(groups))
    order = shuffled[np.argsort(groups[shuffled], kind="stable")]
    _, first, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, sizes)
    return np.sort(order[rank < (cap if isinstance(cap, int) else cap[order])])


def half_of_groups(groups: Ints, rng: np.random.Generator) -> Mask:
    """Return bool [n]: True for about half of the rows; no group is split."""
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permutation(len(sizes))
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    chosen[order] = np.cumsum(sizes[order]) <= len(groups) // 2
    return np.asarray(chosen[member])


def fold_of(groups: Ints, folds: int) -> Ints:
    """Return int64 [n]: each group's fold, the same in every process."""
    return np.asarray(mixed(groups.astype(np.uint64)) % np.uint64(folds), dtype=np.int64)


def mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
