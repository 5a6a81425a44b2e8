"""Embeddings of prompts, each computed once: content-addressed segments in the store, cached on local disk."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tasks.core.drift.errors import BadEmbeddings
from tasks.core.drift.rows import Floats
from tasks.core.errors import EmbeddingsDamaged, ObjectExists, ObjectMissing
from tasks.core.store import Store

MOST_SEGMENTS = 64  # from which they are merged into one
SUFFIX = ".safetensors"
Encode = Callable[[list[str]], Floats]


@dataclass
class EmbeddingCache:
    """The embeddings of prompts by an encoder (its hash), float32 [d] each, for all machines that share the store.

    A segment is written once, under the hash of the prompts in it, so concurrent monitors do not conflict: at worst a
    prompt is in two segments.
    """

    store: Store
    encoder: str
    local: Path
    index: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    vectors: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = hashlib.sha256(self.encoder.encode()).hexdigest()[:16]
        self.prefix = f"embeddings/{name}/"
        self.local = self.local / "embeddings" / name
        self.refresh()

    def embed(self, texts: Sequence[str], encode: Encode) -> Floats:
        """Return float32 [n, d] of the texts; missing ones are encoded, each once, and stored."""
        if missing := self.missing(texts):
            self.add(missing, encode(missing))
        places = [self.index[text_key(text)] for text in texts]
        return np.array([self.vectors[segment][row] for segment, row in places], dtype=np.float32)

    def missing(self, texts: Iterable[str]) -> list[str]:
        """The distinct texts without an embedding, in their order."""
        return [text for text in dict.fromkeys(texts) if text_key(text) not in self.index]

    def add(self, texts: Sequence[str], vectors: Floats) -> None:
        """Store the embeddings, float32 [n, d], of distinct texts."""
        if len(vectors) != len(texts):
            raise BadEmbeddings("encoder", f"returned {len(vectors)} embeddings for {len(texts)} prompts")
        self._write(np.array([list(text_key(text)) for text in texts], dtype=np.uint8), vectors)
        if len(self.vectors) > MOST_SEGMENTS:
            self.merge()

    def merge(self) -> None:
        """Merge all segments. The new one is written before the others are deleted, so nothing is ever missing."""
        old = list(self.vectors)
        keys = np.array([list(key) for key in self.index], dtype=np.uint8)
        self._write(keys, np.array([self.vectors[segment][row] for segment, row in self.index.values()], np.float32))
        for segment in set(old) - {self._name(keys)}:
            self.store.delete(self.prefix + segment)
        self.refresh()

    def refresh(self) -> None:
        """Load what other monitors have added or merged."""
        there = {key.removeprefix(self.prefix) for key in self.store.list(self.prefix)}
        if not there >= self.vectors.keys():
            self.index, self.vectors = {}, {}
        for segment in sorted(there - self.vectors.keys()):
            try:
                self._take(segment)
            except ObjectMissing:  # merged into another meanwhile
                self.refresh()
                return
        self._tidy(there)

    def _write(self, keys: npt.NDArray[np.uint8], vectors: Floats) -> None:
        segment = self._name(keys)
        with suppress(ObjectExists):  # another monitor has embedded the same prompts
            self.store.create(self.prefix + segment, save({"keys": keys, "vectors": np.ascontiguousarray(vectors)}))
        try:
            self._take(segment)
        except ObjectMissing:  # another monitor had written it, and it was merged meanwhile
            self.refresh()

    @staticmethod
    def _name(keys: npt.NDArray[np.uint8]) -> str:
        return hashlib.sha256(keys.tobytes()).hexdigest()[:24] + SUFFIX

    def _take(self, segment: str) -> None:
        """Memory-map a segment's vectors from its local copy, created if missing, and index its prompts."""
        keys, vectors = (self.local / f"{segment}.{part}.npy" for part in ("keys", "vectors"))
        try:
            named, mapped = _map(keys), _map(vectors)
        except (OSError, EOFError, ValueError):  # missing or truncated
            held = _unpacked(self.prefix + segment, self.store.read(self.prefix + segment))
            named, mapped = _save(keys, held["keys"]), _save(vectors, held["vectors"])
        self.vectors[segment] = mapped
        for row, key in enumerate(named):
            self.index.setdefault(key.tobytes(), (segment, row))

    def _tidy(self, there: set[str]) -> None:
        """Delete local copies of segments that were merged; processes that have mapped one keep it."""
        for path in self.local.glob("*.npy"):
            if path.name.partition(".")[0] + SUFFIX not in there:
                path.unlink(missing_ok=True)


def text_key(text: str) -> bytes:
    """Sixteen bytes that identify a prompt."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _unpacked(key: str, data: bytes) -> dict[str, npt.NDArray[np.generic]]:
    try:
        held: dict[str, npt.NDArray[np.generic]] = load(data)
    except SafetensorError as problem:
        raise EmbeddingsDamaged(key, str(problem)) from problem
    if set(held) != {"keys", "vectors"} or len(held["keys"]) != len(held["vectors"]):
        raise EmbeddingsDamaged(key, "it has no keys and vectors of the same length")
    return held


def _map(path: Path) -> npt.NDArray[Any]:
    mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _save(path: Path, values: npt.NDArray[np.generic]) -> npt.NDArray[Any]:
    """Write a temporary file, map and rename it, so that a reader never sees a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    with part.open("wb") as file:
        np.save(file, values)
    mapped = _map(part)
    part.replace(path)
    return mapped
