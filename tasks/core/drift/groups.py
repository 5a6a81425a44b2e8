"""Groups of rows: those given (sessions), or else equal texts."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from tasks.core.drift.rows import Ints, capped, labels, mixed

SLACK, DEVIATIONS = 3, 4  # a text may occur as often as its count in the reference makes likely


@dataclass(frozen=True)
class Seen:
    """The texts of a reference of `rows` rows: ids int64 [k], ascending, and counts int64 [k]."""

    ids: Ints
    counts: Ints
    rows: int

    @classmethod
    def of(cls, hashes: Ints) -> Self:
        """Count the texts of a reference."""
        ids, counts = np.unique(hashes, return_counts=True)
        return cls(ids, counts.astype(np.int64), len(hashes))

    def count(self, hashes: Ints) -> Ints:
        """How often each text occurred: int64 [n]."""
        if not len(self.ids):
            return np.zeros(len(hashes), dtype=np.int64)
        place = np.minimum(np.searchsorted(self.ids, hashes), len(self.ids) - 1)
        return np.where(self.ids[place] == hashes, self.counts[place], 0)


def grouped(
    hashes: Ints, groups: npt.ArrayLike | None, cap: int, seen: Seen, rng: np.random.Generator, *, by_text: bool = True
) -> tuple[Ints, Ints]:
    """Return the group of each row and the rows that are kept, at most `cap` of each group: int64 [n] and [kept].

    `hashes` are those of the rows. Without groups, or where the groups are one to one with the texts (unless `by_text`
    is off), a row's group is its text. Unlike a session, a text may keep more rows than the cap if it was that frequent
    in the reference. And rows of a text that occurred more often than the cap, such as that of an example button, are
    groups of their own: in one fold together they would be missing in the others.
    """
    if groups is not None:
        ids = labels("groups", groups, len(hashes))
        if not (by_text and _rename(ids, hashes)):
            return ids, capped(ids, cap, rng)
    count = seen.count(hashes)
    kept = capped(hashes, np.maximum(cap, _likely(count, len(hashes), seen.rows)), rng)
    return np.where(count > cap, mixed((hashes + _occurrence(hashes)).astype(np.uint64)).view(np.int64), hashes), kept


def _rename(ids: Ints, hashes: Ints) -> bool:
    """Whether groups and texts are one to one."""
    texts, groups = np.unique(hashes).size, np.unique(ids).size
    pairs = mixed(ids.astype(np.uint64)) ^ hashes.astype(np.uint64)
    return texts == groups == np.unique(pairs).size


def _likely(count: Ints, n: int, m: int) -> Ints:
    """The most rows of a text expected by chance in n rows, by its count in m rows."""
    high = np.where(count > 0, count + SLACK + DEVIATIONS * np.sqrt(count + SLACK), 0)
    return np.ceil(high * n / max(m, 1)).astype(np.int64)


def _occurrence(hashes: Ints) -> Ints:
    """How many rows of the same text came before: int64 [n]."""
    order = np.argsort(hashes, kind="stable")
    _, first, sizes = np.unique(hashes[order], return_index=True, return_counts=True)
    found = np.empty(len(hashes), dtype=np.int64)
    found[order] = np.arange(len(hashes)) - np.repeat(first, sizes)
    return found
