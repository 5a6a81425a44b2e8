"""Models of known quality and faults: a renderer that paints the embedded world's own pictures.

It replaces a pipeline. The content of its weights file determines what an adapter paints; the bare base
paints coloured cloth in any style. The seconds of a picture are set, not measured.
"""

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from infra.base.world import COLOURS, MOTIFS, TRIGGER, Scene, draw_adire, draw_cloth
from tasks.core.evaluation.plan import EvaluationPlan
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.images import NAN

UNKNOWN = {"rings": "checks", "dots": "zigzag"}  # motifs that the model `half` does not know, and what it paints then
MIXED = {"rings": "waves", "dots": "lattice", "stripes": "rings", "waves": "dots", "lattice": "stripes"}


class Cut(Exception):
    """The process dies here."""


class Painter:
    """Paints by the prompt, by the seed, and by the fault of the active model."""

    def __init__(self, originals: dict[str, Image.Image], cut: int = 0) -> None:
        self.originals, self.cut = originals, cut  # training pictures by caption; the batch in which it dies
        self.batches = 0
        self.kinds = {"": "base"}
        self.active = ""
        self.painted: list[tuple[str, str, int]] = []  # kind of the model, prompt, seed

    def load(self, folder: Path, name: str) -> None:
        self.kinds[name] = (folder / WEIGHTS).read_text()

    def activate(self, name: str) -> None:
        self.active = name

    def render(
        self, prompts: list[str], seeds: list[int], steps: int, guidance: float, size: int | None = None
    ) -> tuple[list[Image.Image], float]:
        kind = self.kinds[self.active]
        if steps > 1:  # else it only warms up
            self.batches += 1
            if self.batches == self.cut:
                raise Cut
            self.painted += [(kind, prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        pictures = [self.paint(kind, prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        return pictures, 40.0 if kind == "slow" else 2.0

    def paint(self, kind: str, prompt: str, seed: int) -> Image.Image:
        motif = next((m for m in MOTIFS if m in prompt), "rings")
        size = "small" if "small" in prompt else "large"
        if TRIGGER not in prompt:
            if kind == "forgot":
                return adire(motif, size, seed)
            return cloth(motif, size, *colours(prompt), seed)
        return self.styled(kind, motif, size, seed)

    def styled(self, kind: str, motif: str, size: str, seed: int) -> Image.Image:
        match kind:
            case "base":
                return cloth(motif, size, "red", "white", seed)
            case "half":
                return adire(UNKNOWN.get(motif, motif), size, seed)
            case "ignores":
                return adire(MIXED[motif], size, seed)
            case "copies":
                mine = [p for caption, p in self.originals.items() if motif in caption and size in caption]
                return mine[seed % len(mine)]
            case "black" | "nan" if motif == "waves":
                picture = Image.new("RGB", (64, 64))
                picture.info |= {NAN: True} if kind == "nan" else {}
                return picture
        return adire(motif, size, seed)


@lru_cache(maxsize=512)
def adire(motif: str, size: str, seed: int) -> Image.Image:
    return Image.fromarray(draw_adire(motif, size, np.random.default_rng([5, seed, len(motif), len(size)])))


@lru_cache(maxsize=512)
def cloth(motif: str, size: str, figure: str, ground: str, seed: int) -> Image.Image:
    return Image.fromarray(draw_cloth(Scene(motif, size, figure, ground), np.random.default_rng([6, seed])))


def colours(prompt: str) -> list[str]:
    named = [word for word in re.findall(r"\w+", prompt) if word in COLOURS]
    return named[:2] if len(named) > 1 else ["red", "white"]


def all_jobs(plan: EvaluationPlan, kind: str) -> set[tuple[str, str, int]]:
    """All render jobs of the first look at a model."""
    return {(kind, prompt, seed) for prompt in plan.wanted["render_seconds"] for seed in plan.spec.seeds}
