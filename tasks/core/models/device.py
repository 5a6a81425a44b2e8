"""Where the models run, and in which precision."""

import torch


def pick_device(name: str = "") -> torch.device:
    """The device of this name, else the GPU where there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def pick_dtype(device: torch.device) -> torch.dtype:
    """float32 on the CPU; on a GPU bfloat16 where it has it, else float16."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
