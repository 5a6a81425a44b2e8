"""What rendered pictures are compared with: held-out ones for the style, those trained on for copies."""

from dataclasses import dataclass

import numpy as np

from tasks.core.config.presets import EvaluationSpec
from tasks.core.data.dataset import Item, Manifest
from tasks.core.data.perceptual_hash import Hashes, distinct, hashes
from tasks.core.data.split import split
from tasks.core.models.clip import Clip, Embeddings
from tasks.core.store import Store
from tasks.core.training.dataset import load_pictures

FEW = 8  # training pictures below which no near-copy limit is computed
PART = 32  # pictures that are decoded at once


@dataclass(frozen=True)
class References:
    """Embeddings float32 [k, d] of what the style is compared with and of what was trained on; hashes of the latter."""

    style: Embeddings
    trained: Embeddings
    hashes: Hashes
    usual: float = -1.0  # cosine up to which pictures are no nearer than training pictures are to each other
    near_limit: float | None = None  # cosine from which on a picture is a near-copy
    held: int = 0  # held-out pictures that the style is compared with; 0: it is compared with training pictures

    def nearness(self, pictures: Embeddings) -> Embeddings:
        """Cosine of each picture, float32 [n, d], to the nearest one trained on, and at least `usual`: float32 [n].

        Without that floor a model that has learnt the style would score worse than one that has not.
        """
        return np.asarray((pictures @ self.trained.T).max(1).clip(min=self.usual), np.float32)


def find_references(store: Store, manifest: Manifest, side: int, spec: EvaluationSpec, clip: Clip) -> References:
    """The pictures of a dataset version, as squares of `side` pixels; training pictures where none are held out."""
    parts = split(store, manifest)
    held = parts.held[: spec.references]
    style, _ = _examined(store, manifest.dataset, held or _some(parts.train, spec.references), side, clip)
    trained, marks = _examined(store, manifest.dataset, _some(parts.train, spec.originals), side, clip)
    rows = distinct(marks, spec.copy_bits)  # duplicates would make every cosine usual
    return References(style, trained, marks, *nearest(trained[rows], spec.near_quantile), held=len(held))


def nearest(trained: Embeddings, quantile: float) -> tuple[float, float | None]:
    """Median and quantile of the cosines of each picture to the nearest other one; none of too few pictures."""
    if len(trained) < FEW:
        return -1.0, None
    cosines = trained @ trained.T
    np.fill_diagonal(cosines, -1)
    usual, limit = np.quantile(cosines.max(1), [0.5, quantile])
    return float(usual), float(limit)


def _examined(store: Store, dataset: str, items: tuple[Item, ...], side: int, clip: Clip) -> tuple[Embeddings, Hashes]:
    """Embeddings and hashes of pictures, of which a few at a time are in memory."""
    parts = (load_pictures(store, dataset, items[i : i + PART], side) for i in range(0, len(items), PART))
    found = [(clip.encode_pictures(pictures), hashes(pictures)) for pictures in parts]
    return np.concatenate([rows for rows, _ in found]), np.concatenate([marks for _, marks in found])


def _some(items: tuple[Item, ...], count: int) -> tuple[Item, ...]:
    """At most `count` items, by the hash of their content: the same ones each time."""
    return tuple(sorted(items, key=lambda item: item.sha256)[:count])
