"""A training's course: cut off anywhere it ends the same, the best LoRA wins, what has changed is told."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.core.config.installation import Settings
from tasks.core.config.training import TrainSpec
from tasks.core.errors import CheckpointForeign, Terminated, TrainingDiverged
from tasks.core.models.rendering import Renderer
from tasks.core.store import FolderStore
from tasks.core.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint
from tasks.core.training.trainer import Trainer
from tests.tiny import SPEC, Cut, Diary, asking, lesson, tiny

pytestmark = pytest.mark.any_key  # checkpoints lie in a folder that the caller names

FAMILIES = ("sd15", "sd2", "sdxl")


@pytest.fixture
def base(pipelines: dict[str, Path]) -> Path:
    return pipelines["sd15"]


def ran(base: Path, settings: Settings, store: FolderStore, key: str, spec: TrainSpec = SPEC) -> tuple[Trainer, Diary]:
    trainer, diary = tiny(base, settings.cache, spec), Diary()
    trainer.run(store, key, diary)
    return trainer, diary


def cut_off(base: Path, settings: Settings, store: FolderStore, at: int, spec: TrainSpec = SPEC) -> Diary:
    diary = Diary(cut=at)
    with pytest.raises(Cut):
        tiny(base, settings.cache, spec).run(store, "cut", diary)
    return diary


def newest(store: FolderStore, key: str) -> tuple[Checkpoint, dict[str, Tensor]]:
    found = newest_checkpoint(store, key)
    assert found
    return found


def same(store: FolderStore, one: str, other: str) -> bool:
    first, second = newest(store, one)[1], newest(store, other)[1]
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_learns_resumes_bit_for_bit_and_draws_the_same_when_loaded_again(
    family: str, pipelines: dict[str, Path], settings: Settings, folder: FolderStore, tmp_path: Path
) -> None:
    spec = asking(buckets=True, flip=True, crop="random", dropout=0.2)
    trainer, diary = ran(pipelines[family], settings, folder, "straight", spec)
    cut_off(pipelines[family], settings, folder, 5, spec)
    _, second = ran(pipelines[family], settings, folder, "cut", spec)
    assert second.first == 3
    assert second.losses == {step: diary.losses[step] for step in (4, 5, 6)}
    assert same(folder, "straight", "cut")
    assert [p.size for p in diary.pictures] == [(64, 64)] * 4
    trainer.save(tmp_path / "adapter")
    renderer = Renderer(str(pipelines[family]), "cpu")
    bare = np.asarray(renderer.render(["dots"], [1], 3, 2.0, 64)[0][0], int)
    renderer.load(tmp_path / "adapter", "again")
    renderer.activate("again")
    loaded = np.asarray(renderer.render(["dots"], [1], 3, 2.0, 64)[0][0], int)
    with torch.no_grad():
        generator = [torch.Generator().manual_seed(1)]
        drawn = trainer.pipe(
            "dots", num_inference_steps=3, guidance_scale=2.0, generator=generator, height=64, width=64
        )
    assert np.allclose(loaded, np.asarray(drawn.images[0], int), atol=1)
    assert not np.array_equal(loaded, bare), "the LoRA shows"


@pytest.mark.parametrize(("every", "shown"), [(2, [2, 4, 6]), (4, [4, 6]), (100, [6])])
def test_sample_pictures_are_shown_on_the_way_and_change_nothing(
    every: int, shown: list[int], base: Path, settings: Settings, folder: FolderStore
) -> None:
    _, diary = ran(base, settings, folder, "run", asking(sample_every=every))
    assert diary.shown == shown
    assert diary.losses == ran(base, settings, folder, "without", asking(sample_every=1000))[1].losses


def test_resumed_twice_and_in_the_middle_of_an_epoch(base: Path, settings: Settings, folder: FolderStore) -> None:
    spec = asking(steps=9, batch=1, accumulation=1, checkpoint_every=2)  # an epoch has four steps
    ran(base, settings, folder, "straight", spec)
    assert max(cut_off(base, settings, folder, 3, spec).losses) == 3
    again = cut_off(base, settings, folder, 7, spec)
    assert min(again.losses) == 3
    _, last = ran(base, settings, folder, "cut", spec)
    assert min(last.losses) == 7
    assert same(folder, "straight", "cut")


def test_a_changed_specification_is_refused_with_the_difference(
    base: Path, settings: Settings, folder: FolderStore
) -> None:
    cut_off(base, settings, folder, 4)
    before = newest(folder, "cut")[0]
    with pytest.raises(CheckpointForeign) as told:
        ran(base, settings, folder, "cut", asking(rank=4, validation={"every": 3, "pictures": 2}))
    assert told.value.differences == ["rank: 2 -> 4", "validation.every: 2 -> 3"]
    assert newest(folder, "cut")[0] == before, "nothing is lost"
    _, diary = ran(base, settings, folder, "cut", asking(compute={"channels_last": True}))
    assert diary.first == 3, "how it is carried out may change"


def test_other_conditions_are_told(base: Path, settings: Settings, folder: FolderStore) -> None:
    cut_off(base, settings, folder, 4)
    mark, tensors = newest(folder, "cut")
    assert set(mark.environment) >= {"threads", "micro_batch", "processes", "device", "torch", "diffusers", "peft"}
    _, quiet = ran(base, settings, folder, "cut")
    assert quiet.messages == []
    environment = mark.environment | {"threads": "64", "torch": "1.0"}
    save_checkpoint(folder, "other", mark.model_copy(update={"environment": environment}), tensors)
    _, diary = ran(base, settings, folder, "other")
    assert len(diary.messages) == 1
    assert f"threads 64 -> {torch.get_num_threads()}" in diary.messages[0]
    assert "torch 1.0 -> " in diary.messages[0]


def test_pictures_that_are_enlarged_are_counted(base: Path, settings: Settings, folder: FolderStore) -> None:
    trainer, diary = tiny(base, settings.cache, asking(steps=1), lesson(wide=True)), Diary()
    trainer.run(folder, "small", diary)
    message = "2 of 4 pictures are enlarged, the smallest from 96 x 48 to 64 x 64; they are blurred in the training"
    assert diary.messages == [message]


def test_a_resumed_training_keeps_its_micro_batch(base: Path, settings: Settings, folder: FolderStore) -> None:
    cut_off(base, settings, folder, 4)
    mark, tensors = newest(folder, "cut")
    three = mark.model_copy(update={"environment": mark.environment | {"micro_batch": "3"}})
    save_checkpoint(folder, "three", three, tensors)
    assert ran(base, settings, folder, "three")[0].learner.micro == 3


def test_sigterm_writes_a_checkpoint_and_the_training_goes_on_from_it(
    base: Path, settings: Settings, folder: FolderStore
) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(1))

    class Stopped(Diary):
        def step(self, step: int, metrics: dict[str, float]) -> None:
            super().step(step, metrics)
            if step == 4:
                signal.raise_signal(signal.SIGTERM)

    try:
        with pytest.raises(Terminated):
            tiny(base, settings.cache).run(folder, "cut", Stopped())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [1], "whoever had the signal before gets it"
    assert newest(folder, "cut")[0].step == 4
    ran(base, settings, folder, "straight")
    _, second = ran(base, settings, folder, "cut")
    assert list(second.losses) == [5, 6]
    assert same(folder, "straight", "cut")


def test_validation_repeats_and_leaves_no_trace(base: Path, settings: Settings, folder: FolderStore) -> None:
    trainer = tiny(base, settings.cache, asking(dropout=0.3))
    assert len(trainer.held) == 2 * 4
    assert sorted({s.time for s in trainer.held}) == [125, 375, 625, 875]
    trainer.learner.step(1, trainer.draws.samples(1))
    state, weights = torch.get_rng_state(), trainer.learner.weights()
    losses = [trainer.learner.loss(trainer.held) for _ in range(2)]
    assert losses[0] == losses[1] > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weights[n], p) for n, p in trainer.learner.parameters.items())
    assert all(p.grad is None for p in trainer.learner.parameters.values())


def test_held_pictures_are_encoded_whole_and_only_when_they_are_looked_at(
    base: Path, settings: Settings, folder: FolderStore, tmp_path: Path
) -> None:
    chance = {"crop": "random", "crops": 2, "flip": True}
    latents = tmp_path / "cache" / "latents"
    tiny(base, settings.cache, asking(**chance, validation={"every": 0}))
    assert len(list(latents.iterdir())) == 4 * 4
    assert tiny(base, settings.cache, asking(validation={"every": 0})).held == []
    before = len(list(latents.iterdir()))
    tiny(base, settings.cache, asking(**chance))
    assert len(list(latents.iterdir())) == before + 2, "each in the middle, as it is"


def test_a_training_is_the_same_with_and_without_validation(
    base: Path, settings: Settings, folder: FolderStore
) -> None:
    _, validated = ran(base, settings, folder, "with")
    _, plain = ran(base, settings, folder, "without", asking(validation={"every": 0}))
    assert list(validated.validated) == [2, 4, 6]
    assert plain.validated == {}
    assert plain.losses == validated.losses


WORSE = {"learning_rate": 0.5, "steps": 12, "checkpoint_every": 4}  # it only gets worse from here


def test_the_best_is_the_challenger_also_after_a_cut(base: Path, settings: Settings, folder: FolderStore) -> None:
    spec = asking(**WORSE | {"steps": 8})
    trainer, diary = ran(base, settings, folder, "straight", spec)
    best = min(diary.validated, key=lambda step: diary.validated[step])
    assert best < 8
    assert trainer.learner.loss(trainer.held) == pytest.approx(diary.validated[best], rel=1e-5)
    figures = trainer.figures()
    assert (figures["best_step"], figures["validation_loss"]) == (best, diary.validated[best])
    cut_off(base, settings, folder, 6, spec)
    again, _ = ran(base, settings, folder, "cut", spec)
    weights = trainer.learner.weights()
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.learner.weights().items())


def test_patience_ends_a_training_early_and_for_good(base: Path, settings: Settings, folder: FolderStore) -> None:
    spec = asking(**WORSE | {"steps": 40}, validation={"every": 2, "pictures": 2, "patience": 3})
    trainer, diary = ran(base, settings, folder, "run", spec)
    end, best = max(diary.losses), int(trainer.figures()["best_step"])
    assert end == best + 3 * 2 < 40
    assert newest(folder, "run")[0].step == end
    again, nothing = ran(base, settings, folder, "run", spec)
    assert nothing.losses == {}
    assert again.figures()["best_step"] == best
    weights = trainer.learner.weights()
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.learner.weights().items())


def test_a_loss_that_is_no_number_ends_it(base: Path, settings: Settings, folder: FolderStore) -> None:
    trainer = tiny(base, settings.cache)
    with torch.no_grad():
        trainer.learner.unet.conv_in.weight.fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match=r"not a number at step 1: lower train\.learning_rate"):
        trainer.run(folder, "run", Diary())
    assert newest_checkpoint(folder, "run") is None


@pytest.mark.parametrize(("rate", "steps"), [(1e30, 1), (1e30, 2), (1e8, 1)])
def test_what_explodes_in_its_last_step_is_not_trained(
    base: Path, settings: Settings, folder: FolderStore, rate: float, steps: int
) -> None:
    spec = asking(learning_rate=rate, steps=steps, validation={"every": 0})
    for _ in range(2):  # started again it goes on from the last checkpoint, and ends no other way
        with pytest.raises(TrainingDiverged, match=r"step \d: lower train\.learning_rate"):
            tiny(base, settings.cache, spec).run(folder, "run", Diary())


def test_pictures_that_are_no_numbers_are_not_of_a_trained_model(
    base: Path, settings: Settings, folder: FolderStore
) -> None:
    trainer, diary = tiny(base, settings.cache, asking(steps=1)), Diary()
    with torch.no_grad():
        trainer.pipe.vae.decoder.conv_out.weight.fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="the sample pictures are not a number at step 1"):
        trainer.run(folder, "run", diary)
    assert len(diary.pictures) == 4, "one can look at them"


def test_weights_of_demand_are_what_is_drawn(base: Path, settings: Settings) -> None:
    given = lesson()
    one = type(given)(given.pictures, np.array([0.0, 1.0, 0.0, 0.0]), given.held)
    trainer = tiny(base, settings.cache, SPEC, one)
    expected = trainer.material.take(1)[1]["hidden"]
    assert all(torch.equal(s.texts["hidden"], expected) for step in (1, 2) for s in trainer.draws.samples(step))
