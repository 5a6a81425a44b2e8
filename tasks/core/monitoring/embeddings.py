"""Embeddings of prompts by hour, beside the log: content-addressed segments in the store, cached on local disk."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
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
from tasks.core.monitoring.log_cache import hour_name, keys_before
from tasks.core.store import Store
from tasks.core.traffic.prompt_log import PromptLine

CAPTIONS = "captions"  # the place of the dataset's captions, which belong to no hour
MOST_SEGMENTS = 16  # of captions, from which those of today's dataset become one
SUFFIX = ".safetensors"
Encode = Callable[[list[str]], Floats]
Batch = dict[str, list[str]]  # distinct prompts by their place: an hour, or CAPTIONS


class EmbeddingCache:
    """The embeddings of a model's prompts by an encoder (its hash), float32 [d] each, as far as they are opened.

    A segment holds prompts of an hour. It is written once, under the hash of the prompts in it, so concurrent monitors
    do not conflict: at worst a prompt is in two segments. What is not in an opened hour is embedded again: a check
    reads its own hours, however many there are, and each prompt is embedded once a window.
    """

    def __init__(self, store: Store, model: str, encoder: str, local: Path) -> None:
        self.store, self.model, self.encoder = store, model, encoder
        name = hashlib.sha256(encoder.encode()).hexdigest()[:16]
        self.prefix, self.captions = f"{embedding_folder(model)}{name}/", f"models/{model}/drift/{CAPTIONS}/{name}/"
        self.local = local / "embeddings"
        self.opened: set[str] = set()  # places
        self.index: dict[bytes, tuple[str, int]] = {}
        self.vectors: dict[str, Floats] = {}  # by the key of the segment

    def open(self, places: Iterable[str]) -> None:
        """Load the segments of these places; each is listed and read once."""
        if new := set(places) - self.opened:
            self._load(new)
            self.opened |= new

    def missing(self, lines: Sequence[PromptLine], captions: Sequence[str] = ()) -> Batch:
        """The distinct texts without an embedding, each in the last hour with it: it stays longest in the window."""
        asked = dict.fromkeys(captions, CAPTIONS) | {line.prompt: hour_name(line.time) for line in lines}
        self.open({*(hour_name(line.time) for line in lines), *asked.values()})
        if any(text_key(text) not in self.index for text in asked):
            self._load(self.opened)  # other machines may have added them
        found: Batch = {}
        for text, place in asked.items():
            if text_key(text) not in self.index:
                found.setdefault(place, []).append(text)
        return found

    def embed(self, lines: Sequence[PromptLine], encode: Encode) -> Floats:
        """Return float32 [n, d] of the lines' prompts; missing ones are encoded, each once, and stored."""
        self.add(self.missing(lines), encode)
        return self.rows([line.prompt for line in lines])

    def rows(self, texts: Iterable[str]) -> Floats:
        """Return float32 [n, d] of texts that are opened or were added."""
        places = [self.index[text_key(text)] for text in texts]
        return np.array([self.vectors[segment][row] for segment, row in places], dtype=np.float32)

    def add(self, batch: Mapping[str, Sequence[str]], encode: Encode) -> None:
        """Encode distinct texts at once, and store them in their places."""
        texts = [text for some in batch.values() for text in some]
        if not texts:
            return
        vectors = encode(texts)
        if len(vectors) != len(texts):
            raise BadEmbeddings("encoder", f"returned {len(vectors)} embeddings for {len(texts)} prompts")
        row = 0
        for place, some in batch.items():
            self._write(place, some, vectors[row : row + len(some)])
            row += len(some)

    def merge_captions(self, captions: Sequence[str]) -> None:
        """Write the captions as one segment, if there are many; those of earlier datasets are deleted."""
        old = [key for key in self.vectors if key.startswith(self.captions)]
        if len(old) > MOST_SEGMENTS:
            merged = self._write(CAPTIONS, captions, self.rows(captions))
            self.store.delete_many([key for key in old if key != merged])

    def forget(self, before: datetime) -> None:
        """Delete the segments of hours before this one, of all encoders, here and in the store."""
        limit, folder = hour_name(before), embedding_folder(self.model)
        for encoder in self.store.folders(folder):
            self.store.delete_many(keys_before(self.store, f"{folder}{encoder}/", limit))
        for hour in (self.local / folder).glob("*/*"):
            if hour.name < limit:
                shutil.rmtree(hour, ignore_errors=True)

    def _folder(self, place: str) -> str:
        return self.captions if place == CAPTIONS else f"{self.prefix}{place}/"

    def _load(self, places: set[str]) -> None:
        """Load the segments of the places that are not loaded yet."""
        keys = list(self.store.list(self.captions)) if CAPTIONS in places else []
        if hours := sorted(places - {CAPTIONS}):
            for key in self.store.list(self.prefix, f"{self.prefix}{hours[0]}/0"):  # before any segment
                hour = key.removeprefix(self.prefix).partition("/")[0]
                if hour > hours[-1]:
                    break
                keys += [key] if hour in places else []
        for key in keys:
            if key not in self.vectors:
                with suppress(ObjectMissing):  # deleted meanwhile
                    self._take(key)

    def _write(self, place: str, texts: Sequence[str], vectors: Floats) -> str:
        """Store a segment and index it; returns its key."""
        keys = np.array([list(text_key(text)) for text in texts], dtype=np.uint8)
        key = f"{self._folder(place)}{hashlib.sha256(keys.tobytes()).hexdigest()[:24]}{SUFFIX}"
        try:
            self.store.create(key, save({"keys": keys, "vectors": np.ascontiguousarray(vectors)}))
        except ObjectExists:  # another monitor has embedded the same prompts
            with suppress(ObjectMissing):
                self._take(key)
        self._index(key, keys, vectors)
        return key

    def _index(self, key: str, keys: npt.NDArray[np.uint8], vectors: Floats) -> None:
        if key not in self.vectors:
            self.vectors[key] = vectors
            for row, text in enumerate(keys):
                self.index.setdefault(text.tobytes(), (key, row))

    def _take(self, key: str) -> None:
        """Memory-map a segment's vectors from its local copy, created if missing, and index its prompts."""
        keys, vectors = (self.local / f"{key}.{part}.npy" for part in ("keys", "vectors"))
        try:
            named, mapped = _map(keys), _map(vectors)
        except (OSError, EOFError, ValueError):  # missing or truncated
            held = _unpacked(key, self.store.read(key))
            named, mapped = _save(keys, held["keys"]), _save(vectors, held["vectors"])
        self._index(key, named, mapped)


def embedding_folder(model: str) -> str:
    """The place of the embeddings of a model's prompts, by encoder and hour."""
    return f"models/{model}/drift/embeddings/"


def batches(texts: Batch, most: int) -> list[Batch]:
    """Batches of at most `most` texts each."""
    every = [(place, text) for place, some in texts.items() for text in some]
    found: list[Batch] = []
    for start in range(0, len(every), most):
        found.append({})
        for place, text in every[start : start + most]:
            found[-1].setdefault(place, []).append(text)
    return found


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
