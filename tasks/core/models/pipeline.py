"""The base model: a Stable Diffusion or Stable Diffusion XL pipeline from a folder or the Hub."""

import logging
from typing import Any, TypeAlias

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging

from tasks.core.errors import ModelUnusable
from tasks.core.models.device import pick_device, pick_dtype
from tasks.core.models.identity import locate

diffusers_logging.set_verbosity_error()
diffusers_logging.disable_progress_bar()
logging.getLogger("transformers").setLevel(logging.ERROR)

Pipeline: TypeAlias = StableDiffusionPipeline | StableDiffusionXLPipeline
OPTIONS: dict[str, dict[str, Any]] = {  # by class, what it is loaded with
    "StableDiffusionPipeline": {"safety_checker": None},
    "StableDiffusionXLPipeline": {"add_watermarker": False},  # else pictures depend on an optional package
}


def load_pipeline(base: str, device_name: str = "", dtype: torch.dtype | None = None) -> Pipeline:
    """The base model with a DDIM scheduler, on its device, in its precision or in `dtype`; raises ModelUnusable."""
    name, revision = locate(base)
    device = pick_device(device_name)
    options = {"revision": revision, "dtype": dtype or pick_dtype(device), "use_safetensors": True}
    try:
        pipe = DiffusionPipeline.from_pretrained(name, **options, **_options(name, revision))
    except (OSError, ValueError) as error:
        raise ModelUnusable(name, f"cannot be loaded: {error}; check the model's base") from error
    # Latents are never clipped, but DDIM does so by default where the config of another scheduler lacks the option.
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def _options(name: str, revision: str | None) -> dict[str, Any]:
    """What the pipeline's class is loaded with; other classes are rejected."""
    kind = str(DiffusionPipeline.load_config(name, revision=revision).get("_class_name"))
    if kind not in OPTIONS:
        raise ModelUnusable(name, f"is a {kind}, not a {' or a '.join(OPTIONS)}; check the model's base")
    return OPTIONS[kind]
