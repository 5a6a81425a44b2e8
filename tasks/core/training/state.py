"""Optimiser states as flat tensors, for safetensors."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

Entry: TypeAlias = "dict[str, Tensor | int | float | Entry]"
NUMBER = ":number"  # behind the name of a plain number, which is no tensor in the optimiser


def pack(optimiser: Optimizer, prefix: str = "optimiser") -> dict[str, Tensor]:
    """The state as `<prefix>.<parameter>.<name>` tensors; one that is nested has a longer name."""
    state: dict[int, Entry] = optimiser.state_dict()["state"]
    return {f"{prefix}.{i}.{name}": tensor for i, entry in state.items() for name, tensor in _flat(entry)}


def _flat(entry: Entry) -> Iterator[tuple[str, Tensor]]:
    for name, value in entry.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", tensor) for inner, tensor in _flat(value))
        elif isinstance(value, Tensor):
            yield name, value.detach().cpu().clone().contiguous()
        else:
            yield name + NUMBER, torch.tensor(value)


def unpack(optimiser: Optimizer, tensors: Mapping[str, Tensor], prefix: str = "optimiser") -> None:
    """Restore what `pack` made."""
    state: dict[int, Entry] = {}
    for key, value in tensors.items():
        if key.startswith(f"{prefix}."):
            index, *path = key.removeprefix(f"{prefix}.").split(".")
            _put(state.setdefault(int(index), {}), path, value)
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _put(entry: Entry, path: list[str], value: Tensor) -> None:
    for name in path[:-1]:
        inner = entry.setdefault(name, {})
        if not isinstance(inner, dict):
            raise TypeError(f"{name} is a tensor and a group of tensors at once")
        entry = inner
    plain = path[-1].endswith(NUMBER)
    entry[path[-1].removesuffix(NUMBER)] = value.item() if plain else value
