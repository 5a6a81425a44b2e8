"""Checkpoints in the store: made valid by their last file; the newest valid one wins."""

import hashlib
import re
from collections.abc import Iterator

from safetensors.torch import load, save
from torch import Tensor

from tasks.core.documents import Document, read_document, render
from tasks.core.errors import DocumentInvalid, ObjectMissing
from tasks.core.store import Store

KEEP = 2


class Checkpoint(Document):
    """What makes a checkpoint valid."""

    step: int
    sha256: str
    seconds: float = 0.0  # of device time so far


def _folder(run: str) -> str:
    return f"checkpoints/{run}/"


def save_checkpoint(store: Store, run: str, step: int, tensors: dict[str, Tensor], seconds: float = 0.0) -> None:
    """Write the state, then its mark, then remove all but the newest two."""
    data = save(tensors)
    store.write(f"{_folder(run)}step-{step:06d}/state.safetensors", data)
    mark = Checkpoint(step=step, sha256=hashlib.sha256(data).hexdigest(), seconds=seconds)
    store.write(_mark(run, step), render(mark))
    for old in _steps(store, run)[:-KEEP]:
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


def newest_checkpoint(store: Store, run: str) -> tuple[int, dict[str, Tensor]] | None:
    """The newest valid state and its step; a damaged one is passed over."""
    for mark in _marks(store, run):
        try:
            data = store.read(f"{_folder(run)}step-{mark.step:06d}/state.safetensors")
        except ObjectMissing:
            continue
        if hashlib.sha256(data).hexdigest() == mark.sha256:
            return mark.step, load(data)
    return None
