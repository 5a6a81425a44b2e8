"""Where the models run, and in which precision."""

import torch

from tasks.core.config.installation import Settings


def pick_device(settings: Settings) -> torch.device:
    """The device of the settings, else the GPU where there is one."""
    return torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def pick_dtype(device: torch.device) -> torch.dtype:
    """float32 on the CPU; on a GPU bfloat16 where it has it, else float16."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
