"""Checkpoints in the store: made valid by their last file; the newest valid one wins."""

import hashlib
import re

from safetensors.torch import load, save
from torch import Tensor

from tasks.core.documents import Document, parse, render
from tasks.core.errors import DocumentInvalid, ObjectMissing
from tasks.core.store import Store

KEEP = 2


class Checkpoint(Document):
    """What makes a checkpoint valid."""

    step: int
    sha256: str


def _folder(run: str) -> str:
    return f"checkpoints/{run}/"


def save_checkpoint(store: Store, run: str, step: int, tensors: dict[str, Tensor]) -> None:
    """Write the state, then its mark, then remove all but the newest two."""
    data = save(tensors)
    place = f"{_folder(run)}step-{step:06d}/"
    store.write(place + "state.safetensors", data)
    mark = Checkpoint(step=step, sha256=hashlib.sha256(data).hexdigest())
    store.write(place + "checkpoint.json", render(mark))
    for old in _steps(store, run)[:-KEEP]:
        remove(store, run, old)


def _steps(store: Store, run: str) -> list[int]:
    found = (re.search(r"/step-(\d+)/checkpoint\.json$", key) for key in store.list(_folder(run)))
    return sorted(int(m[1]) for m in found if m)


def remove(store: Store, run: str, step: int) -> None:
    """Remove a checkpoint, its mark first."""
    for name in ("checkpoint.json", "state.safetensors"):
        store.delete(f"{_folder(run)}step-{step:06d}/{name}")


def newest_checkpoint(store: Store, run: str) -> tuple[int, dict[str, Tensor]] | None:
    """The newest valid state and its step; a damaged one is passed over."""
    for step in reversed(_steps(store, run)):
        place = f"{_folder(run)}step-{step:06d}/"
        try:
            mark = parse(Checkpoint, store.read(place + "checkpoint.json"), place)
            data = store.read(place + "state.safetensors")
        except (DocumentInvalid, ObjectMissing):
            continue
        if hashlib.sha256(data).hexdigest() == mark.sha256:
            return step, load(data)
    return None
