"""Model families for the trainer: Stable Diffusion 1 and 2, and Stable Diffusion XL."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.training_utils import _collate_lora_metadata
from peft import get_peft_model_state_dict
from torch import Tensor
from torch.nn import Module

from tasks.core.errors import ModelUnusable


def name_encoder(modules: Sequence[Module], *beside: str) -> str:
    """16 hex digits of a sha256 over the modules' tensors, with their names, precisions and shapes, and what is beside.

    The same weights in another precision encode otherwise, and have another name.
    """
    whole = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            whole.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    for text in beside:
        whole.update(f"{text}\n".encode())
    return whole.hexdigest()[:16]


def vocabulary(tokenizer: Any) -> str:
    """A tokenizer's words with their numbers, its length and what fills it."""
    words = sorted(tokenizer.get_vocab().items())
    return repr((words, tokenizer.model_max_length, tokenizer.pad_token_id))


Texts = dict[str, Tensor]  # "hidden" float32 [n, t, d]; SDXL also "pooled" float32 [n, p]; on the CPU
VERSIONS = {768: "stable-diffusion-v1/lora", 1024: "stable-diffusion-v2/lora"}  # by the width of the texts
ENCODING = torch.float32  # of pictures, whatever the pipeline's: the autoencoder of SDXL overflows in float16


class Family(Protocol):
    """A pipeline whose UNet is trained; tensors are given on any device."""

    pipe: Any
    architecture: str  # as https://github.com/Stability-AI/ModelSpec names it

    def encode_texts(self, texts: list[str]) -> Texts:
        """The texts as the pipeline gives them to its UNet."""

    def encode_pictures(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels, float32 [n, 3, h, w] in [-1, 1]: means and deviations of their scaled latents, float32 on the CPU."""

    def time_ids(self, sizes: Tensor) -> Tensor | None:
        """The UNet's size and crop conditioning, float32 [n, 6]; None for a UNet without it.

        Args:
            sizes: int64 [n, 6]: original height and width, top and left of the crop, target height and width.
        """

    def denoise(self, noisy: Tensor, times: Tensor, texts: Texts, sizes: Tensor) -> Tensor:
        """The UNet's prediction [n, c, h, w], on its device, for latents, times int64 [n], texts and sizes."""

    @property
    def vae_id(self) -> str:
        """Names what encodes pictures, in 16 hex digits."""

    @property
    def text_id(self) -> str:
        """Names what encodes texts, in 16 hex digits."""

    def save(self, folder: Path) -> None:
        """Write the adapter, as the pipeline reads it."""


class StableDiffusion:
    """Stable Diffusion 1 and 2: the UNet is conditioned on the last hidden states of one text encoder.

    Texts and pictures are encoded one at a time, so that the result does not depend on the batch.
    """

    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        self.pipe = pipe
        self.architecture = VERSIONS.get(pipe.unet.config.cross_attention_dim, "stable-diffusion/lora")

    @torch.no_grad()
    def encode_texts(self, texts: list[str]) -> Texts:
        """The texts as the pipeline gives them to its UNet."""
        parts = [self._encode_text(text) for text in texts]
        return {name: torch.cat([part[name] for part in parts]).float().cpu() for name in parts[0]}

    def _encode_text(self, text: str) -> Texts:
        hidden, _ = self.pipe.encode_prompt(text, self.pipe.text_encoder.device, 1, do_classifier_free_guidance=False)
        return {"hidden": hidden}

    @torch.no_grad()
    def encode_pictures(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Means and deviations of the latents, scaled as the pipeline takes it back before it decodes."""
        vae = self.pipe.vae
        with _in_float32(vae):
            moments = [_moments(vae, picture[None].to(vae.device, ENCODING)) for picture in pixels]
        means, deviations = (vae.config.scaling_factor * torch.cat(parts).cpu() for parts in zip(*moments, strict=True))
        return means, deviations

    def time_ids(self, sizes: Tensor) -> Tensor | None:
        """None: the UNet has no size conditioning."""
        return None

    def denoise(self, noisy: Tensor, times: Tensor, texts: Texts, sizes: Tensor) -> Tensor:
        """The UNet's prediction; all but times and sizes in the UNet's precision."""
        unet = self.pipe.unet
        latents, hidden = noisy.to(unet.device, unet.dtype), texts["hidden"].to(unet.device, unet.dtype)
        beside = self._beside(texts, sizes)
        predicted: Tensor = unet(latents, times.to(unet.device), hidden, added_cond_kwargs=beside).sample
        return predicted

    def _beside(self, texts: Texts, sizes: Tensor) -> dict[str, Tensor] | None:
        """Conditioning of the UNet beside times and hidden states."""
        return None

    @cached_property
    def vae_id(self) -> str:
        """Names the autoencoder by its weights, its scale and the precision that it encodes in."""
        vae = self.pipe.vae
        return name_encoder([vae], str(vae.config.scaling_factor), str(ENCODING))

    @cached_property
    def text_id(self) -> str:
        """Names the text encoder by its weights and the tokenizer's vocabulary."""
        return name_encoder([self.pipe.text_encoder], vocabulary(self.pipe.tokenizer))

    def save(self, folder: Path) -> None:
        """Write the adapter with its metadata: without it alpha is lost on loading."""
        # In peft's own names: converted to the old ones, attention layers are lost beside others on loading.
        layers = get_peft_model_state_dict(self.pipe.unet)
        metadata = _collate_lora_metadata({"unet": self.pipe.unet})
        for module in metadata.values():
            module["lora_dropout"] = 0.0  # it would be on wherever the file is loaded
        self.pipe.save_lora_weights(str(folder), unet_lora_layers=layers, **metadata)


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL: the UNet is conditioned on the penultimate hidden states of two text encoders, the pooled
    text of the second, and the sizes and crops of pictures (arXiv:2307.01952, section 2.2).
    """

    def __init__(self, pipe: StableDiffusionXLPipeline) -> None:
        self.pipe = pipe
        self.architecture = "stable-diffusion-xl-v1-base/lora"

    def _encode_text(self, text: str) -> Texts:
        device = self.pipe.text_encoder_2.device
        hidden, _, pooled, _ = self.pipe.encode_prompt(text, device=device, do_classifier_free_guidance=False)
        return {"hidden": hidden, "pooled": pooled}

    def time_ids(self, sizes: Tensor) -> Tensor | None:
        """The sizes as numbers, which the UNet embeds as it does times."""
        return sizes.float()

    def _beside(self, texts: Texts, sizes: Tensor) -> dict[str, Tensor] | None:
        unet = self.pipe.unet
        return {"text_embeds": texts["pooled"].to(unet.device, unet.dtype), "time_ids": sizes.float().to(unet.device)}

    @cached_property
    def text_id(self) -> str:
        """Names both text encoders by their weights and the vocabularies of their tokenizers."""
        encoders = [self.pipe.text_encoder, self.pipe.text_encoder_2]
        return name_encoder(encoders, vocabulary(self.pipe.tokenizer), vocabulary(self.pipe.tokenizer_2))


def family_of(pipe: Any) -> Family:
    """The family of a pipeline; raises ModelUnusable."""
    if isinstance(pipe, StableDiffusionXLPipeline):
        return StableDiffusionXL(pipe)
    if isinstance(pipe, StableDiffusionPipeline):
        return StableDiffusion(pipe)
    raise ModelUnusable(
        type(pipe).__name__,
        "is no kind of pipeline to train; take a StableDiffusionPipeline or a StableDiffusionXLPipeline",
    )


@contextmanager
def _in_float32(vae: Any) -> Iterator[None]:
    kept = vae.dtype
    vae.to(dtype=ENCODING)
    try:
        yield
    finally:
        vae.to(dtype=kept)


def _moments(vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of latents; a deterministic autoencoder has deviation 0."""
    encoded = vae.encode(pixels)
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mean, encoded.latent_dist.std
    return encoded.latents, torch.zeros_like(encoded.latents)
