"""Checkpoints: the newest valid one wins, whatever was cut off or damaged."""

import pytest
import torch
from torch import Tensor

from tasks.core.store import FolderStore
from tasks.core.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint

pytestmark = pytest.mark.any_key  # checkpoints lie in a folder that the caller names

RUN = "run/"


def tensors(step: int) -> dict[str, Tensor]:
    return {"weight": torch.full((2, 3), float(step)), "moment": torch.arange(4) * step}


def newest(store: FolderStore) -> int:
    found = newest_checkpoint(store, "run")
    assert found
    mark, state = found
    assert all(torch.equal(state[name], value) for name, value in tensors(mark.step).items())
    return mark.step


def save(store: FolderStore, *steps: int, keep: int = 2) -> None:
    for step in steps:
        save_checkpoint(store, "run", Checkpoint(step=step), tensors(step), keep)


def test_a_run_begins_without_one(folder: FolderStore) -> None:
    assert newest_checkpoint(folder, "run") is None


def test_the_newest_wins_and_two_are_kept(folder: FolderStore) -> None:
    save(folder, 50, 100, 150, 1000)
    assert newest(folder) == 1000
    names = ("checkpoint.json", "state.safetensors")
    assert list(folder.list(RUN)) == [f"{RUN}step-{s:06d}/{n}" for s in (150, 1000) for n in names]


def test_as_many_are_kept_as_asked_for(folder: FolderStore) -> None:
    save(folder, 50, 100, 150, 200, keep=3)
    assert [key.split("/")[1] for key in folder.list(RUN)][::2] == ["step-000100", "step-000150", "step-000200"]


def test_runs_do_not_see_each_other(folder: FolderStore) -> None:
    save(folder, 50)
    assert newest_checkpoint(folder, "run-2") is None
    assert newest_checkpoint(folder, "ru") is None


def test_a_damaged_newest_is_passed_over(folder: FolderStore) -> None:
    save(folder, 50, 100)
    key = f"{RUN}step-000100/state.safetensors"
    data = bytearray(folder.read(key))
    data[-1] ^= 1
    folder.write(key, bytes(data))
    assert newest(folder) == 50
    folder.write(f"{RUN}step-000050/state.safetensors", b"")
    assert newest_checkpoint(folder, "run") is None


def test_one_that_was_cut_off_before_its_mark_does_not_count(folder: FolderStore) -> None:
    save(folder, 50)
    folder.write(f"{RUN}step-000100/state.safetensors", folder.read(f"{RUN}step-000050/state.safetensors"))
    assert newest(folder) == 50


def test_a_damaged_one_is_written_anew(folder: FolderStore) -> None:
    save(folder, 50, 100)
    folder.write(f"{RUN}step-000100/state.safetensors", b"damaged")
    save(folder, 100)
    assert newest(folder) == 100
