"""The file in kohya's format: every trained module is in it, with its alpha, and it draws the same pictures."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file

from tasks.core.config.presets import load_preset
from tasks.core.config.training import TrainSpec
from tasks.core.models.identity import EMBEDDED_FOLDER
from tasks.core.models.kohya import KOHYA
from tasks.core.models.rendering import Renderer
from tasks.core.store import FolderStore
from tasks.core.training.trainer import Trainer
from tests.tiny import Diary
from tests.unit.core.training.test_training import SPEC, rendered, trainer

pytestmark = pytest.mark.any_key  # checkpoints lie in a folder that the caller names

TARGETS = tuple({*load_preset("embedded").train.targets, "to_q", "to_k", "to_v", "to_out.0"})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A copy of the embedded base: what is computed of it is cached beside it."""
    return Path(shutil.copytree(EMBEDDED_FOLDER / "pipeline", tmp_path / "pipeline"))


def trained(base: Path, store: FolderStore, folder: Path, **options: object) -> Trainer:
    told = {"rank": 4, "alpha": 6, "steps": 3, "targets": sorted(TARGETS), **options}
    learner = trainer(base, TrainSpec.model_validate(SPEC.model_dump() | told))
    learner.run(store, "run", Diary())
    learner.save(folder)
    return learner


@pytest.mark.parametrize(("rslora", "alpha"), [(False, 6), (True, 12)])
def test_it_draws_what_the_file_of_diffusers_draws(
    rslora: bool, alpha: float, base: Path, folder: FolderStore, tmp_path: Path
) -> None:
    learner = trained(base, folder, tmp_path / "adapter", rslora=rslora)
    renderer = Renderer(str(base), "cpu")
    bare = rendered(renderer)
    renderer.load(tmp_path / "adapter", "ours")
    renderer.pipe.load_lora_weights(str(tmp_path / "adapter"), weight_name=KOHYA, adapter_name="kohya")
    renderer.activate("ours")
    expected = rendered(renderer)
    renderer.activate("kohya")
    assert np.abs(expected - bare).mean() > 1, "the LoRA shows"
    assert np.allclose(rendered(renderer), expected, atol=1)
    saved = get_peft_model_state_dict(learner.pipe.unet)
    loaded = get_peft_model_state_dict(renderer.pipe.unet, adapter_name="kohya")
    assert set(loaded) == set(saved)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())
    tensors = load_file(tmp_path / "adapter" / KOHYA)
    assert {float(t) for name, t in tensors.items() if name.endswith(".alpha")} == {alpha}
    assert len(tensors) == 3 * len(saved) / 2


def test_its_metadata_tell_what_it_is_and_the_hash_of_its_tensors(
    base: Path, folder: FolderStore, tmp_path: Path
) -> None:
    trained(base, folder, tmp_path, steps=1)
    data = (tmp_path / KOHYA).read_bytes()
    with safe_open(tmp_path / KOHYA, "pt") as file:
        told = file.metadata()
    sha = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    assert told["modelspec.hash_sha256"] == f"0x{sha}"
    assert told["sshs_model_hash"] == sha
    assert (told["ss_network_dim"], told["ss_network_alpha"]) == ("4", "6")
    assert told["modelspec.prediction_type"] == "v"
    assert told["modelspec.resolution"] == "64x64"


def test_dora_has_no_such_file(base: Path, folder: FolderStore, tmp_path: Path) -> None:
    trained(base, folder, tmp_path, steps=1, dora=True)
    assert not (tmp_path / KOHYA).exists()
