"""A step: the same in however many forwards, by choice in other precisions and layouts, and clear when memory ends."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from tasks.core.config.installation import ROOT, Settings
from tasks.core.config.training import TrainSpec
from tasks.core.errors import OutOfMemory, SettingError
from tasks.core.store import FolderStore
from tasks.core.training.checkpoints import newest_checkpoint
from tasks.core.training.learner import Learner
from tasks.core.training.memory import probe
from tasks.core.training.sampler import forwards
from tests.tiny import Diary, asking, lesson, tiny

pytestmark = pytest.mark.any_key  # checkpoints lie in a folder that the caller names

FAMILIES = ("sd15", "sd2", "sdxl")


def gradients(learner: Learner, samples: list[object]) -> dict[str, Tensor]:
    learner.find_micro(samples)  # type: ignore[arg-type]
    learner._gradients(samples, (0,))  # type: ignore[arg-type]
    found = {n: p.grad.clone() for n, p in learner.parameters.items() if p.grad is not None}
    learner.optimiser.zero_grad()
    return found


def step_gradients(base: Path, settings: Settings, spec: TrainSpec, wide: bool = False) -> dict[str, Tensor]:
    trainer = tiny(base, settings.cache, spec, lesson(wide))
    return gradients(trainer.learner, list(trainer.draws.samples(1)))


def close(one: dict[str, Tensor], other: dict[str, Tensor], within: float = 1e-4) -> bool:
    largest = max(float(t.abs().max()) for t in one.values())
    return set(one) == set(other) and all(torch.allclose(one[n], other[n], atol=within * largest) for n in one)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_forward_gives_the_gradients_of_accumulation(
    family: str, pipelines: dict[str, Path], settings: Settings
) -> None:
    whole = step_gradients(pipelines[family], settings, asking())
    parts = step_gradients(pipelines[family], settings, asking(compute={"micro_batch": 1}))
    uneven = step_gradients(pipelines[family], settings, asking(compute={"micro_batch": 3}))
    assert max(t.abs().max() for t in whole.values()) > 0
    assert close(whole, parts)
    assert close(whole, uneven)


def test_as_few_forwards_as_memory_allows(pipelines: dict[str, Path], settings: Settings) -> None:
    trainer = tiny(pipelines["sd15"], settings.cache, asking(buckets=True), lesson(wide=True))
    samples = [sample for step in (1, 2) for sample in trainer.draws.samples(step)]
    shapes = {sample.latents.shape for sample in samples}
    assert len(shapes) == 2
    counts = [len(forward.times) for forward in forwards(samples, trainer.learner.noise, 8, (1,))]
    assert len(counts) == 2, "one a shape"
    assert [len(f.times) for f in forwards(samples, trainer.learner.noise, 3, (1,))] == [2, 2, 2, 2]
    trainer.learner.find_micro(samples[:4])
    assert trainer.learner.micro == 4, "they all fit"


def test_latents_are_drawn_anew_each_step(pipelines: dict[str, Path], settings: Settings) -> None:
    trainer = tiny(pipelines["sd15"], settings.cache, asking(batch=4, accumulation=1))
    rows = {trainer.material.take(row)[1]["hidden"].numpy().tobytes(): row for row in range(4)}
    seen: dict[int, list[Tensor]] = {}
    for step in (1, 2):
        for sample in trainer.draws.samples(step):
            row = rows[sample.texts["hidden"].numpy().tobytes()]
            found = trainer.material.take(row)[0]
            seen.setdefault(row, []).append((sample.latents - found["mean"]) / found["deviation"])
    assert sorted(seen) == [0, 1, 2, 3]
    for first, second in seen.values():
        assert not torch.equal(first, second)
        assert first.std() == pytest.approx(1, abs=0.2), "by the deviation of the autoencoder"


@pytest.mark.parametrize(
    ("options", "within"),
    [
        ({"compute": {"gradient_checkpointing": True}}, 1e-4),
        ({"compute": {"channels_last": True}}, 1e-4),
        ({"precision": "bf16"}, 0.1),
        ({"precision": "fp16"}, 0.1),
    ],
)
def test_how_it_is_carried_out_changes_the_gradients_by_rounding_alone(
    options: dict[str, object], within: float, pipelines: dict[str, Path], settings: Settings
) -> None:
    plain = step_gradients(pipelines["sd15"], settings, asking())
    found = step_gradients(pipelines["sd15"], settings, asking(**options))
    scale = 65536.0 if options.get("precision") == "fp16" else 1.0
    assert close(plain, {n: t / scale for n, t in found.items()}, within)
    assert not options.get("precision") or not close(plain, found, 1e-6), "it has an effect"


def test_the_choices_reach_the_unet(pipelines: dict[str, Path], settings: Settings) -> None:
    compute = {"gradient_checkpointing": True, "channels_last": True, "compile": True}
    unet = tiny(pipelines["sd15"], settings.cache, asking(compute=compute)).learner.unet
    assert unet.is_gradient_checkpointing
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert unet._compiled_call_impl is not None
    plain = tiny(pipelines["sd15"], settings.cache).learner.unet
    assert not plain.is_gradient_checkpointing
    assert plain._compiled_call_impl is None
    assert {type(p) for p in plain.attn_processors.values()} == {AttnProcessor2_0}, "torch's own attention"


def test_a_training_in_float16_resumes_with_its_scale(
    pipelines: dict[str, Path], settings: Settings, folder: FolderStore
) -> None:
    trainer = tiny(pipelines["sd15"], settings.cache, asking(precision="fp16", steps=3))
    trainer.run(folder, "run", Diary())
    found = newest_checkpoint(folder, "run")
    assert found
    assert float(found[1]["scaler.scale"]) == trainer.learner.scaler.get_scale() > 1
    again = tiny(pipelines["sd15"], settings.cache, asking(precision="fp16", steps=3))
    again.learner.restore(found[1] | {"scaler.scale": torch.tensor(1234.0)})
    assert again.learner.scaler.get_scale() == 1234


def test_too_little_memory_is_told_with_what_to_change(pipelines: dict[str, Path], settings: Settings) -> None:
    trainer = tiny(pipelines["sd15"], settings.cache, asking(compute={"micro_batch": 4}))
    trainer.learner.unet.register_forward_pre_hook(lambda *_: torch.empty(2**52))
    with pytest.raises(OutOfMemory) as told:
        trainer.learner.step(1, trainer.draws.samples(1))
    for advice in ("micro_batch: 2", "gradient_checkpointing: true", "precision: bf16", "resolution under 64"):
        assert advice in str(told.value)
    small = asking(precision="bf16", compute={"micro_batch": 1, "gradient_checkpointing": True})
    trainer = tiny(pipelines["sd15"], settings.cache, small)
    trainer.learner.unet.register_forward_pre_hook(lambda *_: torch.empty(2**52))
    with pytest.raises(OutOfMemory) as told:
        trainer.learner.step(1, trainer.draws.samples(1))
    assert "micro_batch" not in str(told.value)
    assert "adamw_8bit" in str(told.value)


def test_another_error_of_torch_stays_what_it_is(pipelines: dict[str, Path], settings: Settings) -> None:
    trainer = tiny(pipelines["sd15"], settings.cache)

    def fail(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    trainer.learner.unet.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        trainer.learner.step(1, trainer.draws.samples(1))


@pytest.mark.parametrize(("fits", "found"), [(8, 8), (7, 4), (3, 2), (1, 1)])
def test_the_probe_of_a_gpu_halves_until_it_fits(fits: int, found: int) -> None:
    tried = []

    def attempt(count: int) -> None:
        tried.append(count)
        if count > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert probe(attempt, 8, torch.device("cuda")) == found
    assert tried[0] == 8


def test_the_probe_of_a_cpu_goes_by_what_one_picture_takes() -> None:
    held: list[Tensor] = []
    most = probe(lambda count: held.append(torch.ones(count * 100 * 2**20)), 10_000, torch.device("cpu"))
    assert 1 < most < 1000, "400 MiB a picture: as many as fit into 70 % of the free memory"
    assert probe(lambda count: None, 1, torch.device("cpu")) == 1


EIGHT_BITS = """
import sys
from pathlib import Path
from tasks.core.config.installation import Settings
from tasks.core.store import FolderStore
from tasks.core.training.checkpoints import newest_checkpoint
from tests.tiny import Cut, Diary, asking, tiny
base, place = map(Path, sys.argv[1:])
settings, store = Settings(cache=place / "cache"), FolderStore(place / "store")
spec = asking(optimiser="adamw_8bit", rank=64, targets=("to_q", "to_k", "to_v", "to_out.0"))
straight, cut, second = Diary(), Diary(cut=5), Diary()
tiny(base, settings.cache, spec).run(store, "straight", straight)
try:
    tiny(base, settings.cache, spec).run(store, "cut", cut)
except Cut:
    tiny(base, settings.cache, spec).run(store, "cut", second)
one, other = newest_checkpoint(store, "straight")[1], newest_checkpoint(store, "cut")[1]
assert any(tensor.dtype.itemsize == 1 for tensor in one.values()), "no state is in eight bits"
assert second.first == 3 and all(one[name].equal(other[name]) for name in one), "resumed otherwise"
assert straight.losses[6] == second.losses[6]
print("the same")
"""


def test_eight_bit_adamw_trains_and_resumes_bit_for_bit(pipelines: dict[str, Path], tmp_path: Path) -> None:
    subprocess.run(["make", "-s", ".venv/gpu/.ready"], cwd=ROOT, check=True)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}/.venv/gpu:{ROOT}"}
    command = [sys.executable, "-W", "ignore", "-c", EIGHT_BITS, str(pipelines["sd15"]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.stdout.split("\n")[-2:] == ["the same", ""], done.stderr


def test_without_its_package_it_says_what_to_install(pipelines: dict[str, Path], settings: Settings) -> None:
    with pytest.raises(SettingError, match=r"train\.optimiser: adamw_8bit needs bitsandbytes: install the group `gpu`"):
        tiny(pipelines["sd15"], settings.cache, asking(optimiser="adamw_8bit"))
