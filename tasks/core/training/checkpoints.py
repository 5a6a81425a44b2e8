"""Checkpoints in the store: valid once their last file is written; the newest valid one is used."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from pydantic import Field
from safetensors.torch import load, save
from torch import Tensor
from torch.optim import Optimizer

from tasks.core.config.base import differences
from tasks.core.config.training import TrainSpec
from tasks.core.errors import CheckpointForeign, DocumentInvalid, ObjectMissing
from tasks.core.store import Store
from tasks.core.store.documents import Document, read_document, render


class Validated(Document):
    """The validation after a step."""

    step: int
    loss: float


class Checkpoint(Document):
    """The marker file that makes a checkpoint valid."""

    step: int
    sha256: str = ""  # of the state's file
    seconds: float = 0.0  # of device time so far
    spec: TrainSpec | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    validations: tuple[Validated, ...] = ()


def save_checkpoint(store: Store, folder: str, mark: Checkpoint, tensors: dict[str, Tensor], keep: int = 2) -> None:
    """Write the state, then its mark, then remove all but the newest."""
    data = save(tensors)
    store.write(f"{folder}/step-{mark.step:06d}/state.safetensors", data)
    whole = mark.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    store.write(_mark(folder, mark.step), render(whole))
    for old in _steps(store, folder)[:-keep]:
        remove(store, folder, old)


def _mark(folder: str, step: int) -> str:
    return f"{folder}/step-{step:06d}/checkpoint.json"


def _steps(store: Store, folder: str) -> list[int]:
    found = (re.search(r"/step-(\d+)/checkpoint\.json$", key) for key in store.list(f"{folder}/"))
    return sorted(int(m[1]) for m in found if m)


def remove(store: Store, folder: str, step: int) -> None:
    """Remove a checkpoint, its mark first."""
    for name in ("checkpoint.json", "state.safetensors"):
        store.delete(f"{folder}/step-{step:06d}/{name}")


def _marks(store: Store, folder: str) -> Iterator[Checkpoint]:
    """The marks that can be read, newest first."""
    for step in reversed(_steps(store, folder)):
        try:
            yield read_document(store, Checkpoint, _mark(folder, step))
        except (DocumentInvalid, ObjectMissing):
            continue


def device_seconds(store: Store, folder: str) -> float:
    """Device time up to the newest checkpoint; 0 when there is none."""
    return next((mark.seconds for mark in _marks(store, folder)), 0.0)


def newest_step(store: Store, folder: str) -> int:
    """The step of the newest checkpoint; 0 when there is none."""
    return next((mark.step for mark in _marks(store, folder)), 0)


def newest_checkpoint(store: Store, folder: str) -> tuple[Checkpoint, dict[str, Tensor]] | None:
    """The newest valid mark and its state; damaged ones are skipped."""
    for mark in _marks(store, folder):
        try:
            data = store.read(f"{folder}/step-{mark.step:06d}/state.safetensors")
        except ObjectMissing:
            continue
        if hashlib.sha256(data).hexdigest() == mark.sha256:
            return mark, load(data)
    return None


def check_spec(folder: str, mark: Checkpoint, spec: TrainSpec) -> None:
    """Raise CheckpointForeign when the checkpoint belongs to another specification."""
    if mark.spec and (found := differences(mark.spec.identity(), spec.identity())):
        raise CheckpointForeign(folder, found)


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
    """The inverse of `pack`."""
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
