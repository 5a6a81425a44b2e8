"""The adapter as a file in kohya's format, which most programs that draw pictures read.

Names as kohya's sd-scripts give them to the modules of a diffusers UNet; a tensor `alpha` beside each pair, since these
programs read it nowhere else; metadata `ss_*` and that of https://github.com/Stability-AI/ModelSpec. Programs
that hide LoRAs of other bases read `ss_base_model_version` and `ss_v2`, and take files without them for Stable
Diffusion 1.
"""

import hashlib
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from peft import get_peft_model_state_dict
from safetensors.torch import save
from torch import Tensor

from tasks.core.config.training import TrainSpec
from tasks.core.models.families import Family

KOHYA = "kohya.safetensors"
PARTS = {"lora_A": "lora_down", "lora_B": "lora_up"}
BASES = {  # sd-scripts' names of what ModelSpec calls architectures
    "stable-diffusion-v1/lora": "sd_v1",
    "stable-diffusion-v2/lora": "sd_v2",
    "stable-diffusion-xl-v1-base/lora": "sdxl_base_v1-0",
}


def kohya_tensors(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """The pairs as they are, and each module's alpha: its scale times its rank, so that rsLoRA keeps its strength."""
    tensors = {}
    for name, tensor in get_peft_model_state_dict(unet).items():
        module, part, _ = name.rsplit(".", 2)
        prefix = f"lora_unet_{module.replace('.', '_')}"
        tensors[f"{prefix}.{PARTS[part]}.weight"] = tensor.detach().cpu().contiguous()
        layer = unet.get_submodule(module)
        tensors[f"{prefix}.alpha"] = torch.tensor(float(layer.scaling["default"] * layer.r["default"]))
    return tensors


def save_kohya(family: Family, spec: TrainSpec, folder: Path) -> None:
    """Write the file; the same adapter gives the same bytes."""
    tensors = kohya_tensors(family.pipe.unet)
    alpha = next(float(tensor) for name, tensor in tensors.items() if name.endswith(".alpha"))
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(spec.rank),
        "ss_network_alpha": f"{alpha:g}",
        "ss_learning_rate": f"{spec.learning_rate:g}",
        "ss_steps": str(spec.steps),
        "ss_seed": str(spec.seed),
        "ss_resolution": f"({spec.resolution}, {spec.resolution})",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "dyeworks LoRA",
        "modelspec.resolution": f"{spec.resolution}x{spec.resolution}",
    } | _base(family)
    sha = _sha256(save(tensors))
    metadata |= {"modelspec.hash_sha256": f"0x{sha}", "sshs_model_hash": sha}
    (folder / KOHYA).write_bytes(save(tensors, metadata))


def _base(family: Family) -> dict[str, str]:
    """Metadata on the base model."""
    velocity = family.pipe.scheduler.config.prediction_type == "v_prediction"
    return {
        "ss_base_model_version": BASES.get(family.architecture, "unknown"),
        "ss_v2": str(family.architecture == "stable-diffusion-v2/lora"),
        "modelspec.architecture": family.architecture,
        "modelspec.prediction_type": "v" if velocity else family.pipe.scheduler.config.prediction_type,
    }


def _sha256(file: bytes) -> str:
    """The hash of all that is behind the header, as kohya and ModelSpec take it."""
    return hashlib.sha256(file[8 + int.from_bytes(file[:8], "little") :]).hexdigest()
