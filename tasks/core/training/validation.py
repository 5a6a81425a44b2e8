"""Validation: the loss on held-out pictures, with the same noises and four timesteps each time."""

import torch

from tasks.core.training.checkpoints import Validated
from tasks.core.training.dataset import Material
from tasks.core.training.sampler import Sample

TIMES = (0.125, 0.375, 0.625, 0.875)  # of the noise schedule


def validation_samples(material: Material, seed: int, times: int) -> list[Sample]:
    """Each picture at each of the four times, with deterministic latents; the weights sum to 1."""
    samples = []
    for row in range(len(material)):
        weight = 1 / (len(material) * len(TIMES))
        found, texts = material.take(row)
        mean = found["mean"]
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed * 100_003 + row))
        samples += [Sample(mean, noise, texts, found["sizes"], int(t * times), weight) for t in TIMES]
    return samples


def best_of(history: list[Validated]) -> Validated | None:
    """The smallest loss, the first of equal ones."""
    return min(history, key=lambda validated: validated.loss, default=None)


def is_over(history: list[Validated], patience: int) -> bool:
    """Whether the last `patience` validations were no better than one before them."""
    best = best_of(history)
    return bool(
        patience and best and history[-1].step > best.step and len(history) - 1 - history.index(best) >= patience
    )
