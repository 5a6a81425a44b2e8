"""The render session of an evaluation: pictures of any of its models, rendered or read from the store."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tasks.core.evaluation.renders import RenderCache, Shots
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.rendering import Renders

BASE = "base"  # the bare base model


@dataclass(frozen=True)
class EvaluatedModel:
    """An adapter in a folder, or the bare base without one. Equal weights are one model."""

    sha256: str = BASE
    folder: Path | None = None

    @property
    def name(self) -> str:
        """The adapter's name in the renderer; empty: the bare base."""
        return self.sha256[:16] if self.folder else ""

    @classmethod
    def of(cls, folder: Path) -> "EvaluatedModel":
        """The adapter in a folder."""
        return cls(hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(), folder)


@dataclass(frozen=True)
class ComparedModels:
    """The two models that are compared."""

    challenger: EvaluatedModel
    champion: EvaluatedModel
    size_bytes: int = 0  # of the challenger's weights


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt's pictures, one a seed, and the seconds that each took."""

    prompt: str
    pictures: list[Image.Image]
    seconds: tuple[float, ...]


class RenderSession:
    """One pipeline, loaded only when something must be rendered."""

    def __init__(
        self, cache: RenderCache, make: Callable[[], Renders], watch: Callable[[int], None] = lambda _: None
    ) -> None:
        """`watch` is called with the number of pictures so far."""
        self.cache, self.make, self.watch = cache, make, watch
        self.renderer: Renders | None = None
        self.warm = ""  # the model that rendered last
        self.pictures = 0  # rendered, or read from the store
        self.seconds = 0.0  # of rendering

    def draw(self, model: EvaluatedModel, prompts: Sequence[str], seeds: Sequence[int]) -> Iterator[RenderedPrompt]:
        """The prompts with every seed, in order; a prompt is stored as soon as its pictures are rendered."""
        some = self.cache.way.batch  # prompts at a time: what is in memory stays bounded, and the batches are full
        for start in range(0, len(prompts), some):
            yield from self._draw_some(model, prompts[start : start + some], seeds)

    def _draw_some(
        self, model: EvaluatedModel, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Iterator[RenderedPrompt]:
        known = {prompt: self.cache.read(model.sha256, prompt) for prompt in prompts}
        new = self._draw_new(model, [(p, s) for p in prompts for s in seeds if s not in known[p]])
        for prompt in prompts:
            shots = known.pop(prompt)
            missing = sum(seed not in shots for seed in seeds)
            if missing:
                fresh: Shots = dict(itertools.islice(new, missing))
                self.cache.add(model.sha256, prompt, fresh)
                shots |= fresh
            self.pictures += len(seeds)
            self.watch(self.pictures)
            yield RenderedPrompt(prompt, [shots[s][0] for s in seeds], tuple(shots[s][1] for s in seeds))

    def _draw_new(
        self, model: EvaluatedModel, jobs: list[tuple[str, int]]
    ) -> Iterator[tuple[int, tuple[Image.Image, float]]]:
        """The seed, picture and seconds of each job."""
        way = self.cache.way
        for start in range(0, len(jobs), way.batch):
            prompts, seeds = (list(column) for column in zip(*jobs[start : start + way.batch], strict=True))
            renderer = self._renderer(model, prompts, seeds)
            pictures, each = renderer.render(prompts, seeds, way.steps, way.guidance, way.size)
            self.seconds += each * len(pictures)
            yield from ((seed, (picture, each)) for seed, picture in zip(seeds, pictures, strict=True))

    def _renderer(self, model: EvaluatedModel, prompts: list[str], seeds: list[int]) -> Renders:
        """The renderer with this model, after an untimed step when it has just been switched."""
        self.renderer = self.renderer or self.make()
        if self.warm != model.sha256:
            if model.folder:
                self.renderer.load(model.folder, model.name)
            self.renderer.activate(model.name)
            self.renderer.render(prompts, seeds, 1, self.cache.way.guidance, self.cache.way.size)
            self.warm = model.sha256
        return self.renderer
