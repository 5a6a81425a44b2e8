"""What a parent has planned is what a stage trains, or nothing is trained."""

import json
from pathlib import Path

import pytest

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.config.requests import TrainRequest
from tasks.core.config.stored import read_stored
from tasks.core.data.ingest import ingest
from tasks.core.errors import PlanMismatch, SettingError
from tasks.core.models.identity import base_fingerprint
from tasks.core.store import FolderStore
from tasks.core.training import plan as module
from tasks.core.training.plan import plan_training
from tests.adire import adire, installed
from tests.odd_pictures import encoded, noise


@pytest.fixture
def request_(folder: FolderStore, model: ModelConfig, tmp_path: Path) -> TrainRequest:
    """What a parent sends: resolved, with the key of its plan."""
    draw_uploads(tmp_path / "store/uploads" / model.dataset, 4, FIRST_TASTE, seed=1)
    version = ingest(folder, model.dataset, IngestSpec())[0].version
    asked = TrainRequest(dataset=model.dataset, version=version, train=model.preset.train)
    return asked.model_copy(update={"key": plan_training(installed(folder), model, asked).key})


def test_a_stage_makes_the_plan_of_its_parent(folder: FolderStore, model: ModelConfig, request_: TrainRequest) -> None:
    assert plan_training(installed(folder), model, request_).key == request_.key
    later = adire(preset={"train": {"steps": 7}})
    assert plan_training(installed(folder), later, request_).key == request_.key, "what was sent is resolved"


def test_another_base_on_the_machine_of_the_stage_is_named(
    folder: FolderStore, request_: TrainRequest, tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model_index.json").write_text("{}")
    other = adire(base=str(tmp_path / "base"))
    with pytest.raises(PlanMismatch) as caught:
        plan_training(installed(folder), other, request_)
    message, found = str(caught.value), caught.value.found
    assert message.startswith(
        f"train-lora was planned as {request_.key}, but this machine resolves the same request to {found}"
    )
    assert f"base {base_fingerprint(other.base)}, trainer version {module.VERSION}" in message
    assert f"dataset version {request_.version}, split " in message
    assert (caught.value.planned, found == request_.key) == (request_.key, False)
    assert plan_training(installed(folder), other, request_.model_copy(update={"key": ""})).key == found


def test_another_version_of_the_trainer_is_named(
    folder: FolderStore, model: ModelConfig, request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VERSION", "next")
    with pytest.raises(PlanMismatch, match=r"trainer version next.*run the same version of dyeworks"):
        plan_training(installed(folder), model, request_)


def test_a_choice_that_only_a_later_version_can_carry_out_is_refused(folder: FolderStore, model: ModelConfig) -> None:
    plain = model.model_dump(mode="json")
    plain["preset"]["train"] |= {"optimiser": "lion", "precision": "fp8"}
    folder.write(f"uploads/{model.dataset}/a.png", encoded(noise(1)))
    ingest(folder, model.dataset, IngestSpec())
    with pytest.raises(SettingError) as caught:
        plan_training(installed(folder), read_stored(ModelConfig, json.dumps(plain)), TrainRequest())
    assert str(caught.value) == (
        "train: optimiser: Input should be 'adamw' or 'adamw_8bit'; "
        "precision: Input should be 'fp32', 'bf16' or 'fp16'; choose another, or update dyeworks"
    )
