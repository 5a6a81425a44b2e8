"""Sample pictures on the way: one prompt, the same four seeds."""

import torch
from PIL import Image

from tasks.core.pipeline import Pipeline
from tasks.core.rendering import pictures_of

SEEDS, STEPS, GUIDANCE = range(4), 12, 4.0


@torch.no_grad()
def sample(pipe: Pipeline, prompt: str, side: int) -> list[Image.Image]:
    """Four pictures, marked where they are not a number; no random number but their own is drawn."""
    drawn = pipe(
        [prompt] * len(SEEDS),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in SEEDS],
        height=side,
        width=side,
        output_type="np",
    ).images
    return pictures_of(pipe, drawn)
