"""Window states: counts and feature sums of traffic by (fold, cluster), which merge by addition."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tasks.core.drift.errors import StateUnusable
from tasks.core.drift.features import CLUSTER_WEIGHT, DISTANCE_WEIGHT, SQUARE_WEIGHT, FeatureMap, Placed
from tasks.core.drift.rows import Doubles, Ints


@dataclass(frozen=True)
class WindowState:
    """Counts int64 [folds, clusters], and sums float64 [folds, clusters, d + 2] of x, u and u^2.

    States under one feature map form a group: `+` merges hours in any order, `-` takes rows out again.
    """

    counts: Ints
    sums: Doubles

    @classmethod
    def empty(cls, features: FeatureMap, folds: int) -> Self:
        """The state of no rows."""
        clusters, d = features.centroids.shape
        return cls(np.zeros((folds, clusters), dtype=np.int64), np.zeros((folds, clusters, d + 2)))

    def __add__(self, other: "WindowState") -> "WindowState":
        return WindowState(self.counts + other.counts, self.sums + other.sums)

    def __sub__(self, other: "WindowState") -> "WindowState":
        return WindowState(self.counts - other.counts, self.sums - other.sums)

    def mean_without(self, fold: int) -> Doubles | None:
        """Return the mean of f, float64 [D], over all rows but the fold's; None if there are none."""
        counts = (self.counts.sum(axis=0) - self.counts[fold]).astype(np.float64)
        sums = self.sums.sum(axis=(0, 1)) - self.sums[fold].sum(axis=0)
        if not counts.sum():
            return None
        u, square = DISTANCE_WEIGHT * sums[-2], SQUARE_WEIGHT * sums[-1]
        mean: Doubles = np.concatenate([sums[:-2], CLUSTER_WEIGHT * counts, [u, square]]) / counts.sum()
        return mean

    def to_bytes(self) -> bytes:
        """The state as safetensors, with the non-empty cells only."""
        cells = np.flatnonzero(self.counts)
        shape = np.array(self.sums.shape, dtype=np.int64)
        flat = self.sums.reshape(-1, self.sums.shape[-1])
        return save({"shape": shape, "cells": cells, "counts": self.counts.ravel()[cells], "sums": flat[cells]})

    @classmethod
    def from_bytes(cls, data: bytes, like: "WindowState") -> Self:
        """Read the output of `to_bytes`; raises `StateUnusable` unless it has the shape of `like`."""
        try:
            held = load(data)
            if tuple(held["shape"]) != like.sums.shape:
                raise StateUnusable(f"its shape is {held['shape'].tolist()}, expected {list(like.sums.shape)}")
            counts, sums = np.zeros_like(like.counts), np.zeros_like(like.sums)
            counts.ravel()[held["cells"]] = held["counts"]
            sums.reshape(-1, sums.shape[-1])[held["cells"]] = held["sums"]
        except (SafetensorError, KeyError, IndexError, ValueError) as problem:
            raise StateUnusable(str(problem)) from problem
        if not np.isfinite(sums).all():
            raise StateUnusable("it holds non-finite numbers")
        return cls(counts, sums)


def placed_state(placed: Placed, fold: Ints, empty: WindowState) -> WindowState:
    """Return the state of placed rows and their folds (int64 [n]); `empty` gives the shape."""
    cell = fold * empty.counts.shape[1] + placed.cluster
    counts = np.bincount(cell, minlength=empty.counts.size)
    sums = np.zeros((empty.counts.size, empty.sums.shape[-1]))
    order = np.argsort(cell, kind="stable")
    rows, outer = placed.rows[order], np.stack([placed.u, placed.u**2], axis=1)[order]
    d, ends = rows.shape[1], np.cumsum(counts)
    for one in np.flatnonzero(counts):
        mine = slice(ends[one] - counts[one], ends[one])
        sums[one, :d] = rows[mine].sum(axis=0, dtype=np.float64)
        sums[one, d:] = outer[mine].sum(axis=0, dtype=np.float64)
    return WindowState(counts.reshape(empty.counts.shape), sums.reshape(empty.sums.shape))
