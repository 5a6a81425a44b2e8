"""Prior preservation (DreamBooth, Ruiz et al. 2023, https://arxiv.org/abs/2208.12242, section 3.2).

The bare base renders pictures of the class; they are trained on beside the new ones, so that the model keeps
what it could draw before.
"""

import os
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from tasks.core.documents import digest
from tasks.core.training.material import Material, embed_text
from tasks.core.training.spec import TrainSpec

BATCH = 16  # pictures rendered at once


def prepare_prior(pipe: StableDiffusionPipeline, spec: TrainSpec, base: str, cache: Path) -> Material:
    """The class pictures as latents with deviation 0; rendered once for a base, and then read from the cache."""
    prior = spec.prior
    name = digest(base, prior, str(spec.resolution), str(spec.seed))
    path = cache / "prior" / f"{name}.safetensors"
    prompts = [prior.prompts[i % len(prior.prompts)] for i in range(prior.pictures)]
    if not path.exists():
        latents = _render(pipe, prompts, spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        save_file({"latents": latents}, part)
        part.replace(path)
    latents = load_file(path)["latents"]
    with torch.no_grad():
        texts = torch.cat([embed_text(pipe, prompt) for prompt in prior.prompts])
    return Material(latents, torch.zeros_like(latents), texts, torch.arange(len(latents)) % len(prior.prompts))


@torch.inference_mode()
def _render(pipe: StableDiffusionPipeline, prompts: list[str], spec: TrainSpec) -> Tensor:
    prior = spec.prior
    parts = []
    for begin in range(0, len(prompts), BATCH):
        batch = prompts[begin : begin + BATCH]
        seeds = range(begin, begin + len(batch))
        parts.append(
            pipe(
                batch,
                num_inference_steps=prior.steps,
                guidance_scale=prior.guidance,
                generator=[torch.Generator("cpu").manual_seed(spec.seed * 100_003 + s) for s in seeds],
                height=spec.resolution,
                width=spec.resolution,
                output_type="latent",
            ).images
        )
    return torch.cat(parts).float().cpu().contiguous()
