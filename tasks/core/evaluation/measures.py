"""Measures of rendered pictures, each a value for every prompt and seed."""

import itertools

import numpy as np
from PIL import Image

from tasks.core.clip import Clip, Embeddings
from tasks.core.rendering import Renderer
from tasks.core.scores import Scores
from tasks.core.specs import EvaluationSpec

Pictures = dict[str, list[Image.Image]]


def render_all(
    renderer: Renderer, prompts: tuple[str, ...], spec: EvaluationSpec, size: int
) -> tuple[Pictures, dict[str, tuple[float, ...]]]:
    """Every prompt with every seed, and the seconds of each picture."""
    jobs = list(itertools.product(prompts, spec.seeds))
    pictures: Pictures = {prompt: [] for prompt in prompts}
    seconds: dict[str, list[float]] = {prompt: [] for prompt in prompts}
    renderer.render([prompts[0]], [0], 1, spec.guidance, size)  # warm
    for start in range(0, len(jobs), spec.batch):
        batch = jobs[start : start + spec.batch]
        drawn, each = renderer.render([p for p, _ in batch], [s for _, s in batch], spec.steps, spec.guidance, size)
        for (prompt, _), picture in zip(batch, drawn, strict=True):
            pictures[prompt].append(picture)
            seconds[prompt].append(each)
    return pictures, {prompt: tuple(values) for prompt, values in seconds.items()}


def measure(clip: Clip, pictures: Pictures, seconds: dict[str, tuple[float, ...]], style: Embeddings) -> Scores:
    """All measures; `style` float32 [k, d] are embeddings of pictures of the style."""
    scores: Scores = {"prompt_fidelity": {}, "style_fidelity": {}, "diversity": {}, "render_seconds": seconds}
    for prompt, drawn in pictures.items():
        embedded = clip.encode_pictures(drawn)
        scores["prompt_fidelity"][prompt] = tuple(float(s) for s in clip.score([prompt] * len(drawn), drawn))
        scores["style_fidelity"][prompt] = tuple(float(s) for s in (embedded @ style.T).mean(1))
        scores["diversity"][prompt] = (_diversity(embedded),)
    return scores


def _diversity(embedded: Embeddings) -> float:
    """Mean cosine distance between the pictures of one prompt; 0 for a single picture."""
    n = len(embedded)
    if n < 2:
        return 0.0
    cosines = embedded @ embedded.T
    return float(1 - (cosines.sum() - np.trace(cosines)) / (n * (n - 1)))
