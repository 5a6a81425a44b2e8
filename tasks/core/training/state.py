"""Optimiser states as flat tensors, for safetensors."""

from torch import Tensor
from torch.optim import Optimizer


def pack(optimiser: Optimizer, prefix: str = "optimiser") -> dict[str, Tensor]:
    """The state as `<prefix>.<parameter>.<name>` tensors."""
    state: dict[int, dict[str, Tensor]] = optimiser.state_dict()["state"]
    return {f"{prefix}.{i}.{k}": v.clone().contiguous() for i, entry in state.items() for k, v in entry.items()}


def unpack(optimiser: Optimizer, tensors: dict[str, Tensor], prefix: str = "optimiser") -> None:
    """Restore what `pack` made."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(f"{prefix}."):
            index, name = key.removeprefix(f"{prefix}.").split(".")
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
