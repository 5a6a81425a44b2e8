"""Scores of a model, and what can be said of the difference of two: the prompts are the units of the statistics."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Measure = Literal[
    "prompt_fidelity",  # CLIPScore of the picture with its prompt
    "style_fidelity",  # mean cosine to held-out training pictures
    "diversity",  # mean cosine distance between the pictures of a prompt
    "forgetting",  # CLIPScore that the bare base has on prompts without the trigger, less the model's own
    "near_copies",  # cosine to the nearest training picture
    "render_seconds",  # a picture, warm
]
MEASURES: tuple[Measure, ...] = get_args(Measure)
LESS_IS_BETTER: frozenset[Measure] = frozenset({"forgetting", "near_copies", "render_seconds"})
Values = dict[str, tuple[float, ...]]  # by prompt, a value for each seed
Scores = dict[Measure, Values]
Floats = npt.NDArray[np.float64]


def means(values: Values, prompts: Sequence[str]) -> Floats:
    """Mean over the seeds for each prompt, float64 [prompts]."""
    return np.array([np.mean(values[p]) for p in prompts])


def merged(values: Values, more: Values) -> Values:
    """The values with those of further seeds; prompts that have no further ones are left out."""
    return {p: (*values[p], *more[p]) for p in values if p in more}


def paired_interval(
    challenger: Values,
    champion: Values,
    sets: Sequence[Sequence[str]],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[float, float, float]:
    """Mean difference challenger - champion and its percentile bootstrap interval over prompts.

    Each set of prompts is resampled by itself and has equal weight (Efron & Tibshirani 1993, ch. 8 and 13).
    """
    estimate, draws = 0.0, np.zeros(resamples)
    for i, prompts in enumerate(sets):
        difference = means(challenger, prompts) - means(champion, prompts)
        estimate += float(difference.mean()) / len(sets)
        draws += _weights(len(prompts), resamples, seed + i) @ difference / len(sets)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return estimate, float(low), float(high)


@lru_cache(maxsize=16)
def _weights(prompts: int, resamples: int, seed: int) -> Floats:
    """The share of each prompt in each resample, float64 [resamples, prompts]; the same for every comparison."""
    counts = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    return counts / prompts
