"""The LoRA: added to the UNet, and its parameters."""

import torch
from diffusers import UNet2DConditionModel
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from torch.nn import Module, Parameter

from tasks.core.errors import SettingError
from tasks.core.training.spec import TrainSpec


def add_lora(unet: UNet2DConditionModel, spec: TrainSpec) -> dict[str, Parameter]:
    """Add a seeded LoRA and return its parameters by name; all others are frozen."""
    unet.requires_grad_(False)
    names = [n for n, m in unet.named_modules() if n.endswith(spec.targets) and hasattr(m, "weight")]
    if not names:
        raise SettingError("train.targets", f"no module of the UNet ends in any of {', '.join(spec.targets)}")
    torch.manual_seed(spec.seed)
    unet.add_adapter(_config(spec, names))
    cast_training_params(unet, dtype=torch.float32)
    return {n: p for n, p in unet.named_parameters() if p.requires_grad}


def lora_dropouts(unet: UNet2DConditionModel) -> list[Module]:
    """The LoRA's dropouts; peft leaves them on, in sample pictures too."""
    return [module for name, module in unet.named_modules() if name.endswith(".lora_dropout")]


def _config(spec: TrainSpec, names: list[str]) -> LoraConfig:
    return LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        init_lora_weights="gaussian",
        target_modules=names,
        lora_dropout=spec.dropout,
        use_rslora=spec.rslora,
        use_dora=spec.dora,
    )
