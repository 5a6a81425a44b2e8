"""The samples of each step: pictures, latents, noises and timesteps, all a function of (seed, step).

The numbers are drawn picture by picture for the whole step, so they do not depend on the number of forward passes
and processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DDPMScheduler
from torch import Generator, Tensor

from tasks.core.config.training import TrainSpec
from tasks.core.models.clip import Clip
from tasks.core.models.families import Texts
from tasks.core.training.dataset import Material
from tasks.core.training.latent_cache import Tensors
from tasks.core.training.objective import draw_noise, target_of

Rows = npt.NDArray[np.int64]


class Order:
    """Which pictures each step takes.

    An epoch has just as many steps as show every picture once; the places that are left over go to some twice. A
    picture's share of the places is its weight (systematic sampling: it gets that many, rounded up or down by
    chance). Pictures of one shape go together, so that a step needs few forward passes.
    """

    def __init__(self, weights: npt.NDArray[np.float64], shapes: list[tuple[int, ...]], batch: int, seed: int) -> None:
        """Weights float64 [n] that sum to 1, the shapes of the n pictures, pictures a step."""
        self.weights, self.batch, self.seed = weights, batch, seed
        kinds = {shape: number for number, shape in enumerate(sorted(set(shapes)))}
        self.kinds = np.array([kinds[shape] for shape in shapes])
        self.steps = -(-len(weights) // batch)  # of an epoch
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def rows(self, step: int) -> Rows:
        """The pictures of a step, which are counted from 1; int64 [batch]."""
        epoch, place = divmod(step - 1, self.steps)
        return np.asarray(self.epoch(epoch)[place])

    def _epoch(self, number: int) -> Rows:
        rng = np.random.default_rng([self.seed, number, 1])
        places = self.steps * self.batch
        shuffled = rng.permutation(len(self.weights))
        points = (rng.random() + np.arange(places)) / places
        edges = np.cumsum(self.weights[shuffled])
        drawn = rng.permutation(shuffled[np.searchsorted(edges / edges[-1], points, side="right")])
        turn = rng.permutation(self.kinds.max() + 1)
        together = drawn[np.argsort(turn[self.kinds[drawn]], kind="stable")]
        return np.asarray(rng.permutation(together.reshape(-1, self.batch)))


@dataclass(frozen=True)
class Sample:
    """A picture as a step sees it: latents and noise [c, h, w], its text, sizes [6], time, weight in the loss."""

    latents: Tensor
    noise: Tensor
    texts: Texts
    sizes: Tensor
    time: int
    weight: float


@dataclass(frozen=True)
class Forward:
    """What goes through the UNet at once: [n, c, h, w] noisy and target, times [n], weights float32 [n]."""

    noisy: Tensor
    target: Tensor
    times: Tensor
    texts: Texts
    sizes: Tensor
    weights: Tensor
    seed: int  # of dropout


class Draws:
    """Draws the samples of each step: pictures in their order, class pictures beside them."""

    def __init__(
        self, material: Material, prior: Material | None, weights: npt.NDArray[np.float64], spec: TrainSpec, times: int
    ) -> None:
        """Weights float64 [n] of the pictures, and the number of the noise schedule's times."""
        self.material, self.prior, self.spec, self.times = material, prior, spec, times
        self.order = Order(weights, material.shapes(), spec.effective, spec.seed)

    def samples(self, step: int) -> list[Sample]:
        """All samples of a step; their weights sum to 1, those of class pictures to the prior's weight."""
        rng = np.random.default_rng([self.spec.seed, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        chosen = [(self.material, int(row), 1 / self.spec.effective) for row in self.order.rows(step)]
        if self.prior:
            count = self.spec.prior.batch * self.spec.accumulation
            rows = rng.integers(len(self.prior), size=count)
            chosen += [(self.prior, int(row), self.spec.prior.weight / count) for row in rows]
        # Stratified over the step: less variance than independent times.
        at = torch.randperm(len(chosen), generator=generator) + torch.rand(len(chosen), generator=generator)
        times = (at / len(chosen) * self.times).long().tolist()
        return [
            self._sample(material.take(row, int(rng.integers(material.variants))), time, weight, generator)
            for (material, row, weight), time in zip(chosen, times, strict=True)
        ]

    def _sample(self, taken: tuple[Tensors, Texts], time: int, weight: float, generator: Generator) -> Sample:
        found, texts = taken
        mean = found["mean"]
        latents = mean + found["deviation"] * torch.randn(mean.shape, generator=generator)
        noise = draw_noise(mean, self.spec.noise_offset, generator)
        return Sample(latents, noise, texts, found["sizes"], time, weight)


def forwards(samples: list[Sample], noise: DDPMScheduler, most: int, seed: tuple[int, ...]) -> Iterator[Forward]:
    """As few forwards as can be: of one shape each, and of `most` samples at most."""
    for number, group in enumerate(_groups(samples, most)):
        latents, drawn = (torch.stack([getattr(s, name) for s in group]) for name in ("latents", "noise"))
        times = torch.tensor([s.time for s in group])
        yield Forward(
            noisy=noise.add_noise(latents, drawn, times),
            target=target_of(noise, latents, drawn, times),
            times=times,
            texts={name: torch.stack([s.texts[name] for s in group]) for name in group[0].texts},
            sizes=torch.stack([s.sizes for s in group]),
            weights=torch.tensor([s.weight for s in group]),
            seed=int(np.random.default_rng([*seed, number, 2]).integers(2**62)),
        )


def _groups(samples: list[Sample], most: int) -> Iterator[list[Sample]]:
    kinds: dict[torch.Size, list[Sample]] = {}
    for sample in samples:
        kinds.setdefault(sample.latents.shape, []).append(sample)
    for group in kinds.values():
        parts = -(-len(group) // most)
        for rows in np.array_split(np.arange(len(group)), parts):
            yield [group[row] for row in rows]


TEMPERATURE = 1.0
MOST = 4.0  # times the mean weight


def demand_weights(clip: Clip, captions: list[str], demand: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """How often each picture is drawn, float64 [n], sums to 1; uniform without demand."""
    if not demand:
        return np.full(len(captions), 1 / len(captions))
    nearest = (clip.encode_texts(captions) @ clip.encode_texts(list(demand)).T).max(1).astype(np.float64)
    weights = np.exp((nearest - nearest.max()) / TEMPERATURE)
    weights = np.minimum(weights, MOST * weights.mean())
    return np.asarray(weights / weights.sum())
