"""Training material: latents and text embeddings, computed once."""

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from tasks.core.data.dataset import Item, blobs
from tasks.core.data.pictures import decode, square
from tasks.core.specs import IngestSpec
from tasks.core.store import Store
from tasks.core.training.spec import TrainSpec


@dataclass(frozen=True)
class Material:
    """Means and deviations of the latents, float32 [n, c, h, w]; texts float32 [k, t, d]; each picture's text."""

    means: Tensor
    deviations: Tensor
    texts: Tensor
    text_of: Tensor

    def take(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Means, deviations and texts of some pictures, on the CPU."""
        chosen = torch.from_numpy(rows)
        return self.means[chosen], self.deviations[chosen], self.texts[self.text_of[chosen]]


def load_pictures(store: Store, dataset: str, items: tuple[Item, ...], side: int) -> list[Image.Image]:
    """The items' pictures as squares of `side` pixels."""
    spec = IngestSpec(min_side=8, max_pixels=sys.maxsize)  # what may enter was decided on ingest
    return [square(decode(item.name, data, spec), side) for item, data in blobs(store, dataset, items)]


@torch.no_grad()
def prepare(
    pipe: StableDiffusionPipeline, pictures: list[Image.Image], captions: list[str], spec: TrainSpec
) -> Material:
    """Encode all pictures and captions with the base model's own encoders."""
    means, deviations = zip(*(_latents(pipe, picture) for picture in pictures), strict=True)
    distinct = list(dict.fromkeys(captions))
    texts = torch.cat([embed_text(pipe, text) for text in distinct])
    text_of = torch.tensor([distinct.index(c) for c in captions])
    return Material(torch.cat(means).cpu(), torch.cat(deviations).cpu(), texts.cpu(), text_of)


def _latents(pipe: StableDiffusionPipeline, picture: Image.Image) -> tuple[Tensor, Tensor]:
    """Mean and deviation of a picture's latents, scaled; a deterministic autoencoder has deviation 0."""
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    encoded = pipe.vae.encode(pixels.to(pipe.vae.device, pipe.vae.dtype))
    scale = pipe.vae.config.scaling_factor
    if hasattr(encoded, "latent_dist"):
        return scale * encoded.latent_dist.mean.float(), scale * encoded.latent_dist.std.float()
    return scale * encoded.latents.float(), torch.zeros_like(encoded.latents, dtype=torch.float32)


def embed_text(pipe: StableDiffusionPipeline, text: str) -> Tensor:
    """The text encoder's last hidden state, [1, t, d]."""
    length = pipe.tokenizer.model_max_length
    tokens = pipe.tokenizer(text, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    hidden: Tensor = pipe.text_encoder(tokens.input_ids.to(pipe.text_encoder.device)).last_hidden_state
    return hidden.float()
