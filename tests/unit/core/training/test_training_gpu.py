"""The same small trainings on a GPU, where there is one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.core.config.installation import Settings
from tasks.core.config.training import TrainSpec
from tasks.core.models.pipeline import load_pipeline
from tasks.core.store import FolderStore
from tasks.core.training.fit import dtype_of
from tasks.core.training.trainer import Trainer
from tests.tiny import Cut, Diary, asking, lesson

pytestmark = [pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"), pytest.mark.any_key]
COMPUTE = {"gradient_checkpointing": True, "channels_last": True}


def on_gpu(base: Path, settings: Settings, spec: TrainSpec) -> Trainer:
    return Trainer(load_pipeline(str(base), "cuda", dtype_of(spec, "cuda")), lesson(wide=True), spec, settings.cache)


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_each_family_learns_in_each_precision_and_goes_on(
    family: str, precision: str, pipelines: dict[str, Path], settings: Settings, folder: FolderStore, tmp_path: Path
) -> None:
    spec = asking(precision=precision, buckets=True, compute=COMPUTE)
    straight, cut, second = Diary(), Diary(cut=5), Diary()
    trainer = on_gpu(pipelines[family], settings, spec)
    trainer.run(folder, "straight", straight)
    with pytest.raises(Cut):
        on_gpu(pipelines[family], settings, spec).run(folder, "cut", cut)
    on_gpu(pipelines[family], settings, spec).run(folder, "cut", second)
    assert second.first == 3
    assert np.allclose([second.losses[s] for s in (4, 5, 6)], [straight.losses[s] for s in (4, 5, 6)], rtol=0.05)
    assert trainer.figures()["peak_memory_mib"] > 1
    assert trainer.learner.micro == 4
    trainer.save(tmp_path / "adapter")


def test_the_same_losses_as_on_a_cpu(pipelines: dict[str, Path], settings: Settings, folder: FolderStore) -> None:
    diaries = {}
    for device in ("cpu", "cuda"):
        pipe, diaries[device] = load_pipeline(str(pipelines["sd15"]), device, torch.float32), Diary()
        Trainer(pipe, lesson(), asking(), settings.cache).run(folder, device, diaries[device])
    ours, theirs = (list(diaries[device].losses.values()) for device in ("cuda", "cpu"))
    assert np.allclose(ours, theirs, rtol=1e-2)
