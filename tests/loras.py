"""LoRA files as several trainers write them, with random ranks and alphas, and the expected update of each module.

The arithmetic is numpy's and the names are written out here: nothing is shared with what loads the files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save
from torch import Tensor, nn

Shapes = dict[str, tuple[int, ...]]  # of weights, by the dotted names of their modules
Delta = npt.NDArray[np.float64]
Namer = Callable[[str, str], dict[str, str]]  # component, module -> names of down, up and alpha
ALPHAS: tuple[Callable[[float], Tensor], ...] = (
    lambda a: torch.tensor(a, dtype=torch.float32),
    lambda a: torch.tensor(int(a)),
    lambda a: torch.tensor(a, dtype=torch.float16),
    lambda a: torch.tensor([a], dtype=torch.bfloat16),
    lambda a: torch.tensor([[a]], dtype=torch.float64),
)
XL = {  # sd-scripts' names of the blocks of the tiny XL
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "down_blocks.1.attentions.0": "input_blocks.3.1",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.attentions.0": "output_blocks.0.1",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.attentions.1": "output_blocks.1.1",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
TEXTS = {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}


def kohya(component: str, module: str) -> dict[str, str]:
    """sd-scripts' names for Stable Diffusion 1 and 2, and those of A1111."""
    prefix = "lora_unet" if component == "unet" else "lora_te"
    name = module if component == "unet" else "text_model." + module.removeprefix("text_model.")
    return _flat(f"{prefix}_{name}")


def kohya_xl(component: str, module: str) -> dict[str, str]:
    """sd-scripts' names for Stable Diffusion XL."""
    if component != "unet":
        return _flat(f"{TEXTS[component]}_text_model.{module.removeprefix('text_model.')}")
    for ours, theirs in XL.items():
        if module == ours or module.startswith(f"{ours}.") or module.endswith(f".{ours}"):
            module = module.replace(ours, theirs)
    return _flat(f"lora_unet_{module}")


def _flat(name: str) -> dict[str, str]:
    name = name.replace(".", "_")
    return {"down": f"{name}.lora_down.weight", "up": f"{name}.lora_up.weight", "alpha": f"{name}.alpha"}


def peft(component: str, module: str) -> dict[str, str]:
    """Today's names of diffusers; alphas beside the pairs."""
    name = f"{component}.{module}"
    return {"down": f"{name}.lora_A.weight", "up": f"{name}.lora_B.weight", "alpha": f"{name}.alpha"}


def old(component: str, module: str) -> dict[str, str]:
    """The names of diffusers' attention processors, which knew no alpha."""
    name, places = f"{component}.{module}", {"to_out.0": "to_out", "q_proj": "to_q", "out_proj": "to_out"}
    layer = next((end for end in ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "out_proj") if name.endswith(end)), "")
    if component == "unet" and layer:
        name = name.removesuffix(layer) + f"processor.{places.get(layer, layer)}_lora"
    elif layer:
        name = name.removesuffix(layer) + f"{places[layer]}_lora"
    else:
        name += ".lora" if component == "unet" else ".lora_linear_layer"
    return {"down": f"{name}.down.weight", "up": f"{name}.up.weight"}


def dotted(component: str, module: str) -> dict[str, str]:
    """The names of PEFT's own files, and the UNet alone."""
    name = f"base_model.model.{module}"
    return {"down": f"{name}.lora_A.weight", "up": f"{name}.lora_B.weight"} if component == "unet" else {}


def without_alpha(component: str, module: str) -> dict[str, str]:
    return {part: name for part, name in peft(component, module).items() if part != "alpha"}


@dataclass(frozen=True, repr=False)
class Made:
    """A file, and the expected update of each module's weight, by its dotted name."""

    tensors: dict[str, Tensor]
    deltas: dict[str, Delta]

    def bytes(self, metadata: dict[str, str] | None = None) -> bytes:
        """The file itself."""
        return save(self.tensors, metadata)


def shapes_of(pipe: Any) -> Shapes:
    """All linear layers and convolutions of a pipeline without adapters."""
    parts = {name: part for name in ("unet", "text_encoder", "text_encoder_2") if (part := getattr(pipe, name, None))}
    named = ((f"{name}.{module}", layer) for name, part in parts.items() for module, layer in part.named_modules())
    return {name: tuple(layer.weight.shape) for name, layer in named if isinstance(layer, nn.Linear | nn.Conv2d)}


def made(shapes: Shapes, namer: Namer, seed: int, share: float = 0.3, dtype: torch.dtype = torch.float32) -> Made:
    """A random file for some modules, with a rank and an alpha of each."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Tensor] = {}
    deltas: dict[str, Delta] = {}
    for name, shape in shapes.items():
        names = namer(*name.split(".", 1))
        if not names or (rng.random() > share and name != "unet.conv_in"):
            continue
        rank = int(rng.integers(1, 6))
        out, ins, *kernel = shape
        down = torch.from_numpy(rng.normal(size=(rank, ins, *kernel))).to(dtype)
        up = torch.from_numpy(rng.normal(size=(out, rank, *(1 for _ in kernel)))).to(dtype)
        if kernel == [1, 1] and rng.random() < 0.5:  # some trainers save it as a matrix
            down, up = down[:, :, 0, 0].clone(), up[:, :, 0, 0].clone()
        tensors |= {names["down"]: down, names["up"]: up}
        scale = 1.0
        if "alpha" in names and rng.random() < 0.8:
            alpha = float(rng.choice([1.0, 2.0, 4.0, 8.0, -3.0]))
            tensors[names["alpha"]] = ALPHAS[int(rng.integers(len(ALPHAS)))](alpha)
            scale = alpha / rank
        a, b = (t.double().numpy().reshape(len(t), -1) for t in (down, up))
        deltas[name] = (scale * b @ a).reshape(shape)
    return Made(tensors, deltas)


def added(pipe: Any, adapter: str) -> dict[str, Delta]:
    """The update of each module's weight by an adapter, as PEFT would merge it."""
    found = {}
    for part in ("unet", "text_encoder", "text_encoder_2"):
        model = getattr(pipe, part, None)
        for name, layer in model.named_modules() if model else ():
            if hasattr(layer, "get_delta_weight") and adapter in layer.lora_A:
                found[f"{part}.{name}"] = layer.get_delta_weight(adapter).detach().double().numpy()
    return found
