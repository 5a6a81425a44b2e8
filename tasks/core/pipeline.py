"""The base model: a Stable Diffusion pipeline from a folder or the Hub."""

import logging
from typing import cast

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging

from tasks.core.device import pick_device, pick_dtype
from tasks.core.errors import ModelUnusable
from tasks.core.models import locate
from tasks.core.settings import Settings

diffusers_logging.set_verbosity_error()
diffusers_logging.disable_progress_bar()
logging.getLogger("transformers").setLevel(logging.ERROR)


def load_pipeline(settings: Settings, dtype: torch.dtype | None = None) -> StableDiffusionPipeline:
    """The base model with a DDIM scheduler, on its device; raises ModelUnusable."""
    name, revision = locate(settings)
    device = pick_device(settings)
    try:
        pipe = StableDiffusionPipeline.from_pretrained(
            name, revision=revision, dtype=dtype or pick_dtype(device), use_safetensors=True, safety_checker=None
        )
    except (OSError, ValueError) as error:
        raise ModelUnusable(name, f"cannot be loaded: {error}; check DYEWORKS_BASE_MODEL") from error
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return cast(StableDiffusionPipeline, pipe.to(device))
