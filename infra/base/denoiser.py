"""The embedded UNet and text encoder, trained together on the latents of the base pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import Module, Parameter
from torch.utils.data import Dataset
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from infra.base.muon import Muon
from infra.base.tokenizer import CONTEXT_LENGTH
from infra.base.world import Scene, caption

WIDTH = 128  # of the text encoder
LATENT_SIZE = 16
HARD = ("rings", "spirals")


def build_unet() -> UNet2DConditionModel:
    """4.3 M parameters, attention at 16 x 16 and 8 x 8."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=(2, 4),
        norm_num_groups=16,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers, width 128."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule with v-prediction; trailing timesteps, so that few steps suffice."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


@dataclass(frozen=True)
class Batch:
    """Latents float32 [b, 8, 16, 16], noise alike, timesteps int64 [b], token ids int64 [b, 32]."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    tokens: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        return Batch(
            *(t.to(device, non_blocking=True) for t in (self.latents, self.noise, self.timesteps, self.tokens))
        )


class Denoiser(Module):
    """Text encoder and UNet as one module, for training."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = build_unet()
        self.text_encoder = build_text_encoder(tokenizer)
        self.scheduler = build_scheduler()

    def loss(self, batch: Batch) -> Tensor:
        """Mean squared error of v, down-weighted where the signal-to-noise ratio is above 5."""
        noisy = self.scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        target = self.scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
        with torch.autocast(noisy.device.type, torch.bfloat16):
            text = self.text_encoder(batch.tokens).last_hidden_state
            predicted = self.unet(noisy, batch.timesteps, text).sample
        alpha = self.scheduler.alphas_cumprod.to(noisy.device)[batch.timesteps]
        snr = alpha / (1 - alpha)
        weight = (snr.clamp(max=5) + 1) / (snr + 1)
        loss: Tensor = ((predicted.float() - target) ** 2).mean((1, 2, 3)).mul(weight).mean()
        return loss


@dataclass(frozen=True)
class Batches(Dataset[Batch]):
    """The batch of each step, a function of (seed, step): stratified timesteps, a tenth of the captions dropped."""

    latents: Tensor
    scenes: list[Scene]
    tokenizer: CLIPTokenizer
    size: int
    seed: int

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        rows = rng.choice(len(self.scenes), self.size, p=self._odds())
        texts = ["" if rng.random() < 0.1 else caption(self.scenes[i], rng) for i in rows]
        tokens = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=CONTEXT_LENGTH, return_tensors="pt"
        ).input_ids
        times = (torch.arange(self.size) + torch.rand(self.size, generator=generator)) / self.size * 1000
        latents = self.latents[rows]
        noise = torch.randn(latents.shape, generator=generator)
        return Batch(latents, noise, times.long().clamp(0, 999), tokens)

    def _odds(self) -> npt.NDArray[np.float64]:
        """Motifs that are easily taken for each other are drawn twice as often, float64 [n]."""
        odds = np.array([2.0 if scene.motif in HARD else 1.0 for scene in self.scenes])
        return np.asarray(odds / odds.sum())


def committed_weights(pipeline: Path) -> dict[str, Tensor]:
    """The averaged weights of a saved pipeline, float32, as a Denoiser holds them."""
    unet = UNet2DConditionModel.from_pretrained(pipeline / "unet", torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(pipeline / "text_encoder", dtype=torch.float32)
    parts = {"unet": unet.state_dict(), "text_encoder": text.state_dict()}
    return {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}


def optimisers(model: Denoiser) -> list[torch.optim.Optimizer]:
    """Muon for the UNet's hidden matrices, AdamW for everything else."""
    hidden: list[Parameter] = []
    rest: list[Parameter] = []
    for name, p in model.named_parameters():
        inner = name.startswith("unet.") and p.ndim >= 2 and not name.startswith(("unet.conv_in", "unet.conv_out"))
        (hidden if inner else rest).append(p)
    return [Muon(hidden, lr=0.02), torch.optim.AdamW(rest, lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0)]
