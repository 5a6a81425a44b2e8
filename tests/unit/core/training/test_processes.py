"""Several processes: the same effective batch gives the same losses, and what goes wrong in one is told."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.config.requests import TrainRequest
from tasks.core.config.training import ComputeSpec
from tasks.core.data.ingest import ingest
from tasks.core.errors import SettingError, TrainingFailed
from tasks.core.installation import Installation
from tasks.core.store import FolderStore
from tasks.core.training.distributed import Ranks
from tasks.core.training.fit import fit
from tasks.core.training.launch import fit_in_processes
from tasks.core.training.plan import TrainPlan, plan_training
from tasks.core.training.run import train
from tests.adire import adire, installed
from tests.tiny import Diary
from tests.unit.core.training.test_training import SPEC

SHORT = SPEC.model_copy(update={"steps": 3, "batch": 3, "dropout": 0.0})


def local(folder: FolderStore) -> Installation:
    return installed(folder, device="cpu")


def planned(folder: FolderStore, model: ModelConfig, tmp_path: Path, processes: int) -> TrainPlan:
    draw_uploads(tmp_path / "store/uploads" / model.dataset, 40, FIRST_TASTE, seed=1, pixels=64)
    ingest(folder, model.dataset, IngestSpec())
    spec = SHORT.model_copy(update={"compute": ComputeSpec(processes=processes)})
    return plan_training(installed(folder), model, TrainRequest(train=spec))


def test_two_processes_learn_what_one_does(
    folder: FolderStore, model: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    two = planned(folder, model, tmp_path, 2)
    one = planned(folder, model, tmp_path, 1)
    assert one.key == two.key, "how it is carried out is no part of what is trained"
    alone, (shared, place) = Diary(), (Diary(), tmp_path / "both")
    place.mkdir()
    figures = fit_in_processes(local(folder).settings, model, two, shared, place)
    again = one.model_copy(update={"key": "alone"})
    fit(local(folder), model, again, alone, tmp_path / "alone", Ranks())
    assert list(shared.losses) == [1, 2, 3]
    assert np.allclose(list(shared.losses.values()), list(alone.losses.values()), rtol=1e-4)
    assert shared.validated[3] == pytest.approx(alone.validated[3], rel=1e-4)
    assert len(shared.pictures) == 4
    assert figures["micro_batch"] == 2, "three pictures a step: two in the one process, one in the other"
    name = "pytorch_lora_weights.safetensors"
    ours, theirs = load_file(place / "adapter" / name), load_file(tmp_path / "alone" / name)
    assert set(ours) == set(theirs)
    assert all(np.allclose(ours[n], theirs[n], atol=2e-3) for n in ours)
    resumed = Diary()
    fit(local(folder), model, one, resumed, tmp_path / "alone", Ranks())
    assert resumed.first == 3
    assert any("processes 2 -> 1" in message for message in resumed.messages)


def test_a_process_that_fails_tells_why(
    folder: FolderStore, model: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    plan = planned(folder, model, tmp_path, 2)
    broken = adire(base=str(tmp_path / "nowhere"))
    with pytest.raises(TrainingFailed, match=r"nowhere.*is neither a folder nor an id of the Hub"):
        fit_in_processes(local(folder).settings, broken, plan, Diary(), tmp_path)


def test_a_process_without_a_picture_is_a_wrong_setting(
    folder: FolderStore, model: ModelConfig, tmp_path: Path
) -> None:
    plan = planned(folder, model, tmp_path, 4)
    with pytest.raises(SettingError, match="4 processes for 3 pictures a step; take at most 3"):
        train(local(folder), model, plan, Diary())
