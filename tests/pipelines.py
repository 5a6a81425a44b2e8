"""Real pipelines of each family at a tiny size, with seeded random weights.

Classes and schedulers are those of the published models; pictures are 64 x 64 pixels, latents 4 x 8 x 8. Stable
Diffusion 1.5 and 2.1 keep the width of their texts (768, 1024), which distinguishes them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tasks.core.models.identity import EMBEDDED_FOLDER

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SIDE = 64


def tokenizer(**changes: str) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(EMBEDDED_FOLDER / "pipeline" / "tokenizer", **changes)


def _text(width: int, layers: int, act: str = "quick_gelu") -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=724,
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=32,
        projection_dim=32,
        hidden_act=act,
        bos_token_id=722,
        eos_token_id=723,
        pad_token_id=723,
    )


def _vae(scale: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        sample_size=SIDE,
        scaling_factor=scale,
    )


def _unet(cross: int, **changes: Any) -> UNet2DConditionModel:
    arguments = {
        "sample_size": SIDE // 8,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": 4,
        "cross_attention_dim": cross,
    }
    return UNet2DConditionModel(**(arguments | changes))


def _sd(unet: UNet2DConditionModel, text: CLIPTextConfig, scheduler: Any) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=_vae(0.18215),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer(),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd15() -> StableDiffusionPipeline:
    """Stable Diffusion 1.5: predicts the noise."""
    return _sd(_unet(768), _text(768, 1), PNDMScheduler(**NOISE, skip_prk_steps=True))


def sd2() -> StableDiffusionPipeline:
    """Stable Diffusion 2.1: predicts the velocity."""
    unet = _unet(1024, use_linear_projection=True, attention_head_dim=(2, 4))
    return _sd(unet, _text(1024, 1, "gelu"), DDIMScheduler(**NOISE, prediction_type="v_prediction", clip_sample=False))


def sdxl() -> StableDiffusionXLPipeline:
    """Stable Diffusion XL: two text encoders, and the sizes of the picture beside the time."""
    unet = _unet(
        32 + 48,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(0.13025),
        text_encoder=CLIPTextModel(_text(32, 2)),
        text_encoder_2=CLIPTextModelWithProjection(_text(48, 3, "gelu")),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(pad_token="!"),
        unet=unet,
        scheduler=EulerDiscreteScheduler(**NOISE),
    )


FAMILIES: dict[str, Callable[[], Any]] = {"sd15": sd15, "sd2": sd2, "sdxl": sdxl}


def save_pipeline(name: str, folder: Path) -> Path:
    """Build a family's pipeline, the same one each time, and save it as safetensors, in half precision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        FAMILIES[name]().to(torch.float16).save_pretrained(folder, safe_serialization=True)
    return folder
