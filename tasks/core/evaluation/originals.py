"""What rendered pictures are held against: held-out pictures for the style, those trained on for copies."""

from dataclasses import dataclass

import numpy as np

from tasks.core.clip import Clip, Embeddings
from tasks.core.data.dataset import Item, Manifest, split
from tasks.core.evaluation.faults import Hashes, distinct, hashes
from tasks.core.specs import EvaluationSpec
from tasks.core.store import Store
from tasks.core.training.material import load_pictures

FEW = 8  # training pictures under which nothing is said of what is near for them


@dataclass(frozen=True)
class Originals:
    """Embeddings float32 [k, d] of held-out pictures (`style`) and of those trained on, and the hashes of these."""

    style: Embeddings
    trained: Embeddings
    hashes: Hashes
    near_limit: float | None  # cosine from which on a picture is a near-copy


def find_originals(store: Store, manifest: Manifest, side: int, spec: EvaluationSpec, clip: Clip) -> Originals:
    """The pictures of a dataset version, as squares of `side` pixels."""
    kept, held = split(manifest)
    style = clip.encode_pictures(load_pictures(store, manifest.dataset, held[: spec.references], side))
    pictures = load_pictures(store, manifest.dataset, _some(kept, spec.originals), side)
    trained, marks = clip.encode_pictures(pictures), hashes(pictures)
    rows = distinct(marks, spec.copy_bits)  # a picture that is there twice would make every cosine a usual one
    return Originals(style, trained, marks, near_limit(trained[rows], spec.near_quantile))


def near_limit(trained: Embeddings, quantile: float) -> float | None:
    """The quantile of the cosines of each picture to the nearest other one; None for too few pictures."""
    if len(trained) < FEW:
        return None
    cosines = trained @ trained.T
    np.fill_diagonal(cosines, -1)
    return float(np.quantile(cosines.max(1), quantile))


def _some(items: tuple[Item, ...], count: int) -> tuple[Item, ...]:
    """At most `count` items, by the hash of their content: the same ones each time."""
    return tuple(sorted(items, key=lambda item: item.sha256)[:count])
