"""The training pictures of the embedded world, drawn once and kept as arrays."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from infra.base.world import ADIRE_ONLY, MOTIFS, SIZES, Picture, Scene, draw_adire, draw_cloth, random_scene

CHUNK = 500


def base_chunk(seed: int) -> tuple[list[Scene], Picture]:
    """CHUNK base scenes and their pictures, uint8 [CHUNK, 64, 64, 3]."""
    rng = np.random.default_rng([1, seed])
    scenes = [random_scene(rng) for _ in range(CHUNK)]
    return scenes, np.stack([draw_cloth(s, rng) for s in scenes])


def adire_chunk(seed: int) -> tuple[list[tuple[str, str]], Picture]:
    """CHUNK (motif, size) pairs and their adire pictures, uint8 [CHUNK, 64, 64, 3]."""
    rng = np.random.default_rng([2, seed])
    kinds = [(str(rng.choice((*MOTIFS, *ADIRE_ONLY))), str(rng.choice(SIZES))) for _ in range(CHUNK)]
    return kinds, np.stack([draw_adire(m, s, rng) for m, s in kinds])


def base_pictures(count: int, cache: Path) -> tuple[list[Scene], Picture]:
    """The first `count` base pictures (a multiple of CHUNK), from the cache when they are there."""
    scenes_file, pictures_file = cache / f"base-{count}.json", cache / f"base-{count}.npy"
    if not scenes_file.exists():
        with ProcessPoolExecutor() as pool:
            chunks = list(pool.map(base_chunk, range(count // CHUNK)))
        cache.mkdir(parents=True, exist_ok=True)
        np.save(pictures_file, np.concatenate([p for _, p in chunks]))
        scenes_file.write_text(json.dumps([asdict(s) for scenes, _ in chunks for s in scenes]))
    return [Scene(**s) for s in json.loads(scenes_file.read_text())], np.load(pictures_file)


def adire_pictures(count: int, cache: Path) -> tuple[list[tuple[str, str]], Picture]:
    """The first `count` adire pictures (a multiple of CHUNK), from the cache when they are there."""
    kinds_file, pictures_file = cache / f"adire-{count}.json", cache / f"adire-{count}.npy"
    if not kinds_file.exists():
        with ProcessPoolExecutor() as pool:
            chunks = list(pool.map(adire_chunk, range(count // CHUNK)))
        cache.mkdir(parents=True, exist_ok=True)
        np.save(pictures_file, np.concatenate([p for _, p in chunks]))
        kinds_file.write_text(json.dumps([k for kinds, _ in chunks for k in kinds]))
    return [(m, s) for m, s in json.loads(kinds_file.read_text())], np.load(pictures_file)


def to_tensor(pictures: Picture) -> torch.Tensor:
    """uint8 [n, h, w, 3] to float32 [n, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
