"""Checkpoints in the store: made valid by their last file; the newest valid one wins."""

import hashlib
import re
from collections.abc import Iterator

from pydantic import Field
from safetensors.torch import load, save
from torch import Tensor

from tasks.core.documents import Document, read_document, render
from tasks.core.errors import CheckpointForeign, DocumentInvalid, ObjectMissing
from tasks.core.spec import differences
from tasks.core.store import Store
from tasks.core.training.spec import TrainSpec


class Validated(Document):
    """The validation after a step."""

    step: int
    loss: float


class Checkpoint(Document):
    """What makes a checkpoint valid."""

    step: int
    sha256: str = ""  # of the state's file
    seconds: float = 0.0  # of device time so far
    spec: TrainSpec | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    validations: tuple[Validated, ...] = ()


def _folder(run: str) -> str:
    return f"checkpoints/{run}/"


def save_checkpoint(store: Store, run: str, mark: Checkpoint, tensors: dict[str, Tensor], keep: int = 2) -> None:
    """Write the state, then its mark, then remove all but the newest."""
    data = save(tensors)
    store.write(f"{_folder(run)}step-{mark.step:06d}/state.safetensors", data)
    whole = mark.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    store.write(_mark(run, mark.step), render(whole))
    for old in _steps(store, run)[:-keep]:
        remove(store, run, old)


def _mark(run: str, step: int) -> str:
    return f"{_folder(run)}step-{step:06d}/checkpoint.json"


def _steps(store: Store, run: str) -> list[int]:
    found = (re.search(r"/step-(\d+)/checkpoint\.json$", key) for key in store.list(_folder(run)))
    return sorted(int(m[1]) for m in found if m)


def remove(store: Store, run: str, step: int) -> None:
    """Remove a checkpoint, its mark first."""
    for name in ("checkpoint.json", "state.safetensors"):
        store.delete(f"{_folder(run)}step-{step:06d}/{name}")


def _marks(store: Store, run: str) -> Iterator[Checkpoint]:
    """The marks that can be read, newest first."""
    for step in reversed(_steps(store, run)):
        try:
            yield read_document(store, Checkpoint, _mark(run, step))
        except (DocumentInvalid, ObjectMissing):
            continue


def device_seconds(store: Store, run: str) -> float:
    """Device time up to the newest checkpoint; 0 when there is none."""
    return next((mark.seconds for mark in _marks(store, run)), 0.0)


def newest_step(store: Store, run: str) -> int:
    """The step of the newest checkpoint; 0 when there is none."""
    return next((mark.step for mark in _marks(store, run)), 0)


def newest_checkpoint(store: Store, run: str) -> tuple[Checkpoint, dict[str, Tensor]] | None:
    """The newest valid mark and its state; a damaged one is passed over."""
    for mark in _marks(store, run):
        try:
            data = store.read(f"{_folder(run)}step-{mark.step:06d}/state.safetensors")
        except ObjectMissing:
            continue
        if hashlib.sha256(data).hexdigest() == mark.sha256:
            return mark, load(data)
    return None


def check_spec(run: str, mark: Checkpoint, spec: TrainSpec) -> None:
    """Raise CheckpointForeign when the checkpoint was made by another specification."""
    if mark.spec and (found := differences(mark.spec.identity(), spec.identity())):
        raise CheckpointForeign(run, found)
