"""The reference profile: the frozen traffic of a promoted model, as one safetensors file."""

import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tasks.core.config.drift import DriftSpec
from tasks.core.config.stored import Stored, read_stored
from tasks.core.drift.errors import ProfileUnusable
from tasks.core.drift.features import FeatureMap, Placed
from tasks.core.drift.groups import Seen
from tasks.core.drift.rows import Floats, Ints, Mask

HEADER = "dyeworks"


class ProfileCard(Stored):
    """The fields of a profile that are no arrays, stored as JSON in the file's metadata."""

    layout: Literal["dyeworks.drift.profile/1"] = "dyeworks.drift.profile/1"
    encoder: str = Field(description="hash of the encoder of the embeddings")
    spec: DriftSpec = Field(description="sizes and thresholds it was fitted with")
    seed: int = Field(ge=0, description="seed of the split, the clusters and the cap")
    dimension: int = Field(ge=1, description="d of the embeddings")
    rows_a: int = Field(ge=1, description="rows that were fitted on")
    rows_b: int = Field(ge=1, description="rows that are only scored")
    seen_rows: int = Field(ge=1, description="rows of the whole reference, whose texts were counted")
    texts_seen: int = Field(ge=1, description="distinct texts among them")
    phi: float = Field(ge=1, description="overdispersion: rows per independent row")

    @property
    def provisional(self) -> bool:
        """Whether the reference is too small for a retrain."""
        return self.rows_a + self.rows_b < self.spec.min_reference


@dataclass(frozen=True)
class DriftProfile:
    """The feature map of A and the rows of B: reference float32 [rows_b, d], groups int64 [rows_b].

    `constant` (bool [d]) marks constant columns, `seen` counts the reference's texts; `texts` are B's, for
    explanations alone.
    """

    card: ProfileCard
    features: FeatureMap
    reference: Floats
    groups: Ints
    constant: Mask
    seen: Seen
    texts: tuple[str, ...] = ()
    written: str = ""  # the card as the file has it; empty: it was not read from a file

    @cached_property
    def placed(self) -> Placed:
        """B's rows in their clusters."""
        return self.features.place(self.reference)

    def shares(self) -> list[float]:
        """The share of B's rows in each cluster."""
        return [
            float(share)
            for share in np.bincount(self.placed.cluster, minlength=self.card.spec.clusters) / len(self.groups)
        ]

    def medoid(self, cluster: int) -> str:
        """The prompt of B's row nearest to the cluster's centre; empty if there is none."""
        mine = np.flatnonzero(self.placed.cluster == cluster)
        if not self.texts or not len(mine):
            return ""
        return self.texts[int(mine[np.argmin(self.placed.u[mine])])]

    @property
    def header(self) -> str:
        """The card as text, as some version of the software wrote it: by this the profile is named."""
        return self.written or self.card.model_dump_json()

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify the profile."""
        whole = hashlib.sha256(self.header.encode())
        for name, part in sorted(self._tensors().items()):
            whole.update(part.tobytes() if name != "texts" else json.dumps(self.texts).encode())
        return whole.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write the profile to `path` as safetensors, atomically."""
        part = path.with_name(path.name + ".part")
        save_file(self._tensors(), part, metadata={HEADER: self.header})
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a saved profile; raises `ProfileUnusable` if it is damaged or has another layout, shape or dtype."""
        try:
            with safe_open(path, framework="numpy") as held:
                header = (held.metadata() or {}).get(HEADER, "")
                card = read_stored(ProfileCard, header)
                tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError, ValidationError) as problem:
            raise ProfileUnusable(str(path), str(problem)) from problem
        packed = tensors.pop("texts", np.zeros(0, dtype=np.uint8))
        if not all(np.isfinite(value).all() for value in tensors.values()):
            raise ProfileUnusable(str(path), "it holds non-finite numbers")
        if _shapes(tensors) != _expected(card):
            raise ProfileUnusable(str(path), f"expected tensors {_expected(card)}, found {_shapes(tensors)}")
        reference, groups = tensors.pop("reference"), tensors.pop("groups")
        seen = Seen(tensors.pop("seen_ids"), tensors.pop("seen_counts"), card.seen_rows)
        constant = tensors.pop("constant").astype(np.bool_)
        texts = _unpacked(path, packed, card)
        return cls(card, FeatureMap(**tensors), reference, groups, constant, seen, texts, header)

    def _tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        packed = np.frombuffer(zlib.compress(json.dumps(self.texts).encode()), dtype=np.uint8)
        parts = {**vars(self.features), "reference": self.reference, "groups": self.groups, "texts": packed}
        parts |= {
            "seen_ids": self.seen.ids,
            "seen_counts": self.seen.counts,
            "constant": self.constant.astype(np.uint8),
        }
        return {name: np.ascontiguousarray(value) for name, value in parts.items()}


def _unpacked(path: Path, packed: npt.NDArray[np.generic], card: ProfileCard) -> tuple[str, ...]:
    try:
        texts = tuple(str(text) for text in json.loads(zlib.decompress(packed.tobytes()))) if packed.size else ()
    except (zlib.error, ValueError) as problem:
        raise ProfileUnusable(str(path), f"its texts are damaged: {problem}") from problem
    if texts and len(texts) != card.rows_b:
        raise ProfileUnusable(str(path), f"it has {len(texts)} texts for {card.rows_b} rows")
    return texts


def _shapes(tensors: dict[str, npt.NDArray[np.generic]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (str(value.dtype), value.shape) for name, value in sorted(tensors.items())}


def _expected(card: ProfileCard) -> dict[str, tuple[str, tuple[int, ...]]]:
    wide = card.dimension + card.spec.clusters + 2
    return {
        "centroids": ("float32", (card.spec.clusters, card.dimension)),
        "constant": ("uint8", (card.dimension,)),
        "distance": ("float32", (2,)),
        "groups": ("int64", (card.rows_b,)),
        "mean": ("float32", (wide,)),
        "precision": ("float32", (wide, wide)),
        "reference": ("float32", (card.rows_b, card.dimension)),
        "seen_counts": ("int64", (card.texts_seen,)),
        "seen_ids": ("int64", (card.texts_seen,)),
    }
