"""Storefront processes under test: their releases, and what they have logged."""

import gzip
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from deployments.stack import Stack
from tasks.core.models.families import family_of
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.pipeline import load_pipeline
from tasks.core.registry.channel import flip
from tasks.core.registry.ledger import Entry, append
from tasks.core.registry.releases import ReleaseManifest
from tasks.core.store import Store

MANIFEST = ReleaseManifest(base_model="b", dataset="d", dataset_version="v", training="t", trigger="t", files={})


def wait_for(what: Callable[[], bool], that: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"never: {that}"
        time.sleep(0.1)


def logged(stack: Stack, log: str = "prompts", model: str = "adire") -> list[dict[str, Any]]:
    """The lines of a model's log in the order of time."""
    files = (stack.home / "store" / log / model).rglob("*.jsonl.gz")
    lines = [json.loads(line) for f in files for line in gzip.decompress(f.read_bytes()).splitlines()]
    return sorted(lines, key=lambda line: str(line["time"]))


def published(store: Store, release: str, generation: int, model: str = "adire") -> None:
    """Make a release the champion."""
    entry = Entry(
        generation=generation,
        action="promote",
        release=release,
        dataset_version="v",
        actor="gate",
        reason="better",
        time=datetime.now(UTC),
    )
    append(store, model, entry)
    flip(store, model, entry)


def random_lora(folder: Path) -> Path:
    """A LoRA for the embedded base, with random weights, always the same."""
    family = family_of(load_pipeline("embedded", "cpu"))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        family.pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["proj_in"], init_lora_weights=False))
    family.save(folder)
    return folder


def another_lora(first: Path, folder: Path, seed: int, scale: float = 1.0) -> Path:
    """A LoRA with the shapes of a first one, and other random weights; with the scale NaN it renders black."""
    folder.mkdir()
    draws = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(tensor.shape, generator=draws) * tensor.std() * scale
        for name, tensor in load_file(first / WEIGHTS).items()
    }
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    return folder
