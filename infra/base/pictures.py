"""The training pictures of the embedded world, drawn once and kept as arrays."""

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from infra.base.world import ADIRE_ONLY, MOTIFS, SIZES, Picture, Scene, draw_adire, draw_cloth, random_scene

CHUNK = 500
Chunk = Callable[[int], tuple[list[dict[str, str]], Picture]]


def base_chunk(seed: int) -> tuple[list[dict[str, str]], Picture]:
    """CHUNK base scenes and their pictures, uint8 [CHUNK, 64, 64, 3]."""
    rng = np.random.default_rng([1, seed])
    scenes = [random_scene(rng) for _ in range(CHUNK)]
    return [asdict(s) for s in scenes], np.stack([draw_cloth(s, rng) for s in scenes])


def adire_chunk(seed: int) -> tuple[list[dict[str, str]], Picture]:
    """CHUNK motifs and sizes and their adire pictures, uint8 [CHUNK, 64, 64, 3]."""
    rng = np.random.default_rng([2, seed])
    kinds = [(str(rng.choice((*MOTIFS, *ADIRE_ONLY))), str(rng.choice(SIZES))) for _ in range(CHUNK)]
    return [{"motif": m, "size": s} for m, s in kinds], np.stack([draw_adire(m, s, rng) for m, s in kinds])


def base_pictures(count: int, cache: Path) -> tuple[list[Scene], Picture]:
    """The first `count` base pictures (a multiple of CHUNK), from the cache when they are there."""
    labels, pictures = _drawn("base", base_chunk, count, cache)
    return [Scene(**label) for label in labels], pictures


def adire_pictures(count: int, cache: Path) -> tuple[list[tuple[str, str]], Picture]:
    """The first `count` adire pictures (a multiple of CHUNK), from the cache when they are there."""
    labels, pictures = _drawn("adire", adire_chunk, count, cache)
    return [(label["motif"], label["size"]) for label in labels], pictures


def _drawn(name: str, chunk: Chunk, count: int, cache: Path) -> tuple[list[dict[str, str]], Picture]:
    labels_file, pictures_file = cache / f"{name}-{count}.json", cache / f"{name}-{count}.npy"
    if not labels_file.exists():
        with ProcessPoolExecutor() as pool:
            labels, pictures = zip(*pool.map(chunk, range(count // CHUNK)), strict=True)
        cache.mkdir(parents=True, exist_ok=True)
        np.save(pictures_file, np.concatenate(pictures))
        labels_file.write_text(json.dumps([label for part in labels for label in part]), encoding="utf-8")
    return json.loads(labels_file.read_text(encoding="utf-8")), np.load(pictures_file)


def to_tensor(pictures: Picture) -> torch.Tensor:
    """uint8 [n, h, w, 3] to float32 [n, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
