"""Names of a pipeline's modules in LoRA files.

Dots and underscores are equivalent: kohya's names have only underscores. kohya's trainer of Stable Diffusion XL, and
files for other programs, name the UNet's modules as the published checkpoints do (`input_blocks.4.1` and so on).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

COMPONENTS = {  # of a pipeline, and the prefixes of their modules
    "unet": ("unet_", "lora_unet_", "base_model_model_", "diffusion_model_", "model_diffusion_model_", ""),
    "text_encoder": ("text_encoder_", "lora_te_", "lora_te1_"),
    "text_encoder_2": ("text_encoder_2_", "lora_te2_"),
}
INNER = {  # of a residual block
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
OLD = {"to_out.0": "to_out", "q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


@dataclass(frozen=True)
class LoraTarget:
    """A module that a LoRA can adapt."""

    component: str
    module: str
    weight: Tensor  # [out, in], of a convolution [out, in, h, w]

    def __str__(self) -> str:
        return f"{self.component}.{self.module}"


def key_of(name: str) -> str:
    """The name by which `places` finds a module of a file."""
    return name.replace(".processor.", ".").replace(".", "_")


def places(pipe: Any) -> dict[str, LoraTarget]:
    """All modules of a pipeline that a LoRA can adapt, by every name that files give them."""
    found: dict[str, LoraTarget] = {}
    for component, prefixes in COMPONENTS.items():
        model = getattr(pipe, component, None)
        blocks = published(model) if component == "unet" else {}
        for module, weight in adaptable(model) if model else ():
            place = LoraTarget(component, module, weight)
            found |= {prefix + key_of(name): place for name in _names(module, blocks) for prefix in prefixes}
    return found


def adaptable(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Linear layers and convolutions with their weights, whether adapted already or not."""
    for name, module in model.named_modules():
        layer = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
        if isinstance(layer, nn.Linear | nn.Conv2d) and not re.search(r"\.(?:base_layer|lora_\w+)(?:\.|$)", name):
            yield name, layer.weight


def _names(module: str, blocks: dict[str, str]) -> Iterator[str]:
    yield module
    yield module.removeprefix("text_model.")
    yield f"text_model.{module}"
    for end, old in OLD.items():
        if module.endswith(f".{end}"):
            yield module.removesuffix(end) + old
            yield f"text_model.{module.removeprefix('text_model.').removesuffix(end)}{old}"
    for block, name in blocks.items():
        if module == block or module.startswith(f"{block}."):
            inner = module.removeprefix(block).removeprefix(".")
            yield f"{name}.{INNER.get(inner, inner)}".removesuffix(".")


def published(unet: Any) -> dict[str, str]:
    """The published name of each block of a UNet, by its name in diffusers."""
    names, count = dict(OUTER), 1
    for i, block in enumerate(unet.down_blocks):
        names |= _layers(f"down_blocks.{i}", block, "input_blocks", count)
        count += len(block.resnets)
        if block.downsamplers:
            names[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{count}.0.op"
            count += 1
    count = 0
    for i, block in enumerate(unet.up_blocks):
        names |= _layers(f"up_blocks.{i}", block, "output_blocks", count)
        count += len(block.resnets)
        after = 2 if getattr(block, "attentions", None) else 1
        names[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{count - 1}.{after}.conv"
    return names


def _layers(block: str, module: Any, kind: str, first: int) -> dict[str, str]:
    names = {}
    for j in range(len(module.resnets)):
        names[f"{block}.resnets.{j}"] = f"{kind}.{first + j}.0"
        names[f"{block}.attentions.{j}"] = f"{kind}.{first + j}.1"
    return names
