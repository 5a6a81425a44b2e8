"""An older dataset version is trained on as it was when it was the newest, to the bit."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.config.requests import TrainRequest
from tasks.core.data.dataset import load_manifest
from tasks.core.data.ingest import ingest
from tasks.core.data.pins import pin_dataset
from tasks.core.data.split import split
from tasks.core.registry.results import TrainResult, checkpoint_folder, result_folder
from tasks.core.store import FolderStore, delete_prefix
from tasks.core.training.fit import lesson_of
from tasks.core.training.plan import TrainPlan, plan_training
from tasks.core.training.run import train
from tests.adire import installed
from tests.tiny import Diary
from tests.unit.core.training.test_training import SPEC

pytestmark = pytest.mark.usefixtures("mlflow_home")
DEMAND = ("large rings in adire_style", "small dots in adire_style")


def request(version: str = "") -> TrainRequest:
    return TrainRequest(version=version, demand=DEMAND, train=SPEC.model_copy(update={"steps": 4}))


def adapter(folder: FolderStore, model: ModelConfig, plan: TrainPlan) -> dict[str, dict[str, bytes]]:
    """The weights, by file, of a training that is done anew, without anything that an earlier one has cached."""
    found = installed(folder, device="cpu")
    shutil.rmtree(found.settings.cache, ignore_errors=True)
    delete_prefix(folder, checkpoint_folder(model.name, plan.key))
    folder.delete(f"{result_folder(model.name, TrainResult)}{plan.key}.json")
    prefix = train(found, model, plan, Diary()).adapter
    files = {key.removeprefix(prefix): load(folder.read(key)) for key in folder.list(prefix)}
    return {name: {n: t.numpy().tobytes() for n, t in tensors.items()} for name, tensors in files.items()}


def test_later_versions_change_nothing_of_an_older_one(folder: FolderStore, model: ModelConfig, tmp_path: Path) -> None:
    uploads, machine = tmp_path / "store/uploads" / model.dataset, installed(folder, device="cpu")
    draw_uploads(uploads, 44, FIRST_TASTE, seed=1, pixels=64)
    first = ingest(folder, model.dataset, IngestSpec())[0]
    plan = plan_training(machine, model, request())
    assert (plan.version, plan.held) == (first.version, 4)
    before, lesson = adapter(folder, model, plan), lesson_of(machine, model, first, DEMAND)

    draw_uploads(uploads / "more", 60, FIRST_TASTE, seed=2, pixels=64)
    second = ingest(folder, model.dataset, IngestSpec())[0]
    plan_training(machine, model, request())
    for item in first.items[:20]:
        folder.delete(f"uploads/{model.dataset}/{item.name}")
    for item in second.items:
        folder.write(f"uploads/{model.dataset}/{item.name}.txt", b"another caption")
    third = ingest(folder, model.dataset, IngestSpec())[0]
    assert plan_training(machine, model, request()).version == third.version
    assert len({first.version, second.version, third.version}) == 3
    assert split(folder, second).held != split(folder, first).held

    again = plan_training(machine, model, request(first.version))
    assert again == plan
    assert load_manifest(folder, model.dataset, first.version) == first
    later = lesson_of(machine, model, first, DEMAND)
    assert later.weights.tolist() == lesson.weights.tolist()
    after = adapter(folder, model, again)
    assert after.keys() == before.keys() == {"pytorch_lora_weights.safetensors", "kohya.safetensors"}
    assert after == before
    pin_dataset(folder, model, model.dataset, first.version, "ada", "the autumn show")
    assert plan_training(machine, model, request()) == plan, "a pin is the same as to name the version"
    assert plan_training(machine, model, request(third.version)).version == third.version
