"""Prior preservation (DreamBooth, Ruiz et al. 2023, https://arxiv.org/abs/2208.12242, section 3.2).

The bare base renders pictures of the class; they are trained on beside the new ones, so that the model does not
forget the class.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.core.config.training import TrainSpec
from tasks.core.models.families import Family, name_encoder
from tasks.core.store.documents import digest
from tasks.core.training.dataset import Material, prepare_texts
from tasks.core.training.latent_cache import keep, kept

VERSION = "2"  # raise it when the rendering of class pictures changes
BATCH = 16  # pictures rendered at once


def prepare_prior(family: Family, spec: TrainSpec, cache: Path) -> Material:
    """The class pictures as latents with deviation 0; rendered once by a base, and then read from the cache.

    They are named by the weights that render them, with their precision, and the scheduler: not by the base's name.
    """
    prior, pipe = spec.prior, family.pipe
    unet = name_encoder([pipe.unet], *map(_configuration, (pipe.unet, pipe.scheduler)))
    name = digest(VERSION, unet, family.text_id, prior, str(spec.resolution), str(spec.seed))
    path = cache / "prior" / f"{name}.safetensors"
    text_of = [i % len(prior.prompts) for i in range(prior.pictures)]
    if not (found := kept(path)):
        found = {"latents": _render(family, [prior.prompts[i] for i in text_of], spec)}
        keep(path, found)
    side = spec.resolution
    sizes = torch.tensor([side, side, 0, 0, side, side])
    latents = [{"mean": mean, "deviation": torch.zeros_like(mean), "sizes": sizes} for mean in found["latents"]]
    return Material(latents, prepare_texts(family, list(prior.prompts), cache), text_of)


def _configuration(part: Any) -> str:
    """The settings of a part of a pipeline, without where it was loaded from."""
    return repr(sorted((name, value) for name, value in part.config.items() if not name.startswith("_")))


@torch.inference_mode()
def _render(family: Family, prompts: list[str], spec: TrainSpec) -> Tensor:
    prior = spec.prior
    parts = []
    for begin in range(0, len(prompts), BATCH):
        batch = prompts[begin : begin + BATCH]
        seeds = range(begin, begin + len(batch))
        parts.append(
            family.pipe(
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
