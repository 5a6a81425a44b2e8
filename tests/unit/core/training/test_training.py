"""The trainer on the embedded base: six steps of a small LoRA, stopped, resumed, saved and loaded again."""

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from peft import get_peft_model_state_dict
from PIL import Image
from torch import Tensor

from infra.base.world import adire_caption, draw_adire
from tasks.core.config.training import PriorSpec, TrainSpec
from tasks.core.errors import SettingError
from tasks.core.models.families import family_of
from tasks.core.models.identity import EMBEDDED_FOLDER
from tasks.core.models.pipeline import load_pipeline
from tasks.core.models.rendering import Renderer
from tasks.core.store import FolderStore
from tasks.core.training.checkpoints import Checkpoint, device_seconds, newest_checkpoint
from tasks.core.training.dataset import Lesson, drawn
from tasks.core.training.prior import prepare_prior
from tasks.core.training.trainer import Trainer
from tasks.core.training.validation import validation_samples
from tests.tiny import Cut, Diary

pytestmark = pytest.mark.any_key  # checkpoints lie in a folder that the caller names

SPEC = TrainSpec(
    resolution=64,
    steps=6,
    batch=2,
    accumulation=1,
    rank=4,
    alpha=8,
    targets=("to_q", "to_k", "to_v", "to_out.0", "proj_in", "net.2", "conv1", "time_emb_proj"),
    learning_rate=0.02,
    schedule="cosine",
    warmup=2,
    checkpoint_every=3,
)
PROMPTS, SEEDS = ["large rings in adire_style", "small dots in adire_style"], [1, 2]


@dataclass
class Trained:
    trainer: Trainer
    diary: Diary
    store: FolderStore
    adapter: Path
    base: Path


def lesson() -> Lesson:
    rng = np.random.default_rng(0)
    motifs = ("rings", "dots", "stripes", "waves")
    pictures = [Image.fromarray(draw_adire(m, "large", rng)) for m in motifs]
    named = [drawn(p, adire_caption(m, "large", rng)) for p, m in zip(pictures, motifs, strict=True)]
    return Lesson(named, np.full(4, 0.25), named[:2])


def trainer(base: Path, spec: TrainSpec = SPEC) -> Trainer:
    return Trainer(load_pipeline(str(base), "cpu"), lesson(), spec, base.parent / "cache", "adire_style")


PRIOR = SPEC.model_copy(
    update={"prior": PriorSpec(prompts=("red dots on white", "green waves"), pictures=4, batch=2, steps=2, guidance=2)}
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the embedded base, which stays the same while another is being made."""
    copy = tmp_path_factory.mktemp("base") / "pipeline"
    shutil.copytree(EMBEDDED_FOLDER / "pipeline", copy)
    return copy


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training that ran straight to its end."""
    folder = tmp_path_factory.mktemp("trained")
    made = Trained(trainer(base), Diary(), FolderStore(folder / "store"), folder / "adapter", base)
    made.trainer.run(made.store, "run", made.diary)
    made.trainer.save(made.adapter)
    return made


def state(store: FolderStore, key: str) -> tuple[Checkpoint, dict[str, Tensor]]:
    found = newest_checkpoint(store, key)
    assert found
    return found


def pixels(pictures: list[Image.Image]) -> "np.typing.NDArray[np.int64]":
    return np.stack([np.asarray(p).astype(np.int64) for p in pictures])


def rendered(renderer: Renderer) -> "np.typing.NDArray[np.int64]":
    return pixels(renderer.render(PROMPTS, SEEDS, 4, 4.0)[0])


def drawn_in_training(trainer: Trainer) -> "np.typing.NDArray[np.int64]":
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in SEEDS]
    with torch.inference_mode():
        result = trainer.pipe(PROMPTS, num_inference_steps=4, guidance_scale=4.0, generator=generators)
    return pixels(result.images)


def test_it_learns_and_tells_how_it_goes(trained: Trained) -> None:
    assert sorted(trained.diary.losses) == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(loss) and loss > 0 for loss in trained.diary.losses.values())
    assert [p.size for p in trained.diary.pictures] == [(64, 64)] * 4


def test_only_the_lora_is_trained(trained: Trained) -> None:
    assert all(".lora_" in name for name in trained.trainer.learner.parameters)
    moved = [p for n, p in trained.trainer.learner.parameters.items() if ".lora_B." in n]
    assert moved
    assert all(p.abs().max() > 0 for p in moved), "B begins at zero: every target has learnt something"


def test_a_saved_lora_renders_the_same_when_loaded_again(trained: Trained) -> None:
    renderer = Renderer(str(trained.base), "cpu")
    bare = rendered(renderer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # peft only warns of target modules that it does not find
        renderer.load(trained.adapter, "again")
    assert np.array_equal(rendered(renderer), bare), "loading alone changes nothing"
    renderer.activate("again")
    loaded = rendered(renderer)
    assert np.allclose(loaded, drawn_in_training(trained.trainer), atol=1)
    assert np.abs(loaded - bare).mean() > 1, "the LoRA shows"
    renderer.activate("")
    assert np.array_equal(rendered(renderer), bare)


def test_every_tensor_of_the_lora_comes_back(trained: Trained) -> None:
    renderer = Renderer(str(trained.base), "cpu")
    renderer.load(trained.adapter, "again")
    saved = get_peft_model_state_dict(trained.trainer.pipe.unet)
    loaded = get_peft_model_state_dict(renderer.pipe.unet, adapter_name="again")
    assert set(loaded) == set(saved)
    assert any("attn2.to_k" in name for name in saved)
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)


def test_alpha_is_not_lost_on_loading(trained: Trained) -> None:
    renderer = Renderer(str(trained.base), "cpu")
    renderer.load(trained.adapter, "again")
    scales = {m.scaling["again"] for m in renderer.pipe.unet.modules() if hasattr(m, "scaling") and m.scaling}
    assert scales == {SPEC.alpha / SPEC.rank}


def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(trained: Trained, folder: FolderStore) -> None:
    with pytest.raises(Cut):
        trainer(trained.base).run(folder, "run", Diary(cut=5))
    assert state(folder, "run")[0].step == 3
    second = Diary()
    trainer(trained.base).run(folder, "run", second)
    assert second.first == 3
    assert second.losses == {s: trained.diary.losses[s] for s in (4, 5, 6)}
    (_, straight), (mark, resumed) = state(trained.store, "run"), state(folder, "run")
    assert mark.step == 6
    assert set(resumed) == set(straight)
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


def test_a_resumed_training_counts_the_device_time_before_it(trained: Trained) -> None:
    before = device_seconds(trained.store, "run")
    assert before > 0
    again = trainer(trained.base)
    own = again.meter.seconds()
    again.run(trained.store, "run", Diary())
    assert again.meter.seconds() >= before + own


def test_a_finished_training_only_restores(trained: Trained) -> None:
    again, diary = trainer(trained.base), Diary()
    again.run(trained.store, "run", diary)
    assert (diary.first, diary.losses) == (6, {})
    assert all(torch.equal(p, trained.trainer.learner.parameters[n]) for n, p in again.learner.parameters.items())


def test_another_seed_trains_another_lora(trained: Trained, folder: FolderStore) -> None:
    diary = Diary()
    trainer(trained.base, SPEC.model_copy(update={"seed": 7, "steps": 1})).run(folder, "other", diary)
    assert diary.losses[1] != trained.diary.losses[1]


def test_targets_that_match_nothing_are_a_wrong_setting(base: Path) -> None:
    with pytest.raises(SettingError, match=r"train\.targets: no module of the UNet ends in any of to_nowhere"):
        trainer(base, SPEC.model_copy(update={"targets": ("to_nowhere",)}))


def test_class_pictures_are_rendered_once_and_are_what_the_base_draws(base: Path, folder: FolderStore) -> None:
    first, diary = trainer(base, PRIOR), Diary()
    (file,) = (base.parent / "cache" / "prior").glob("*.safetensors")
    made = file.stat().st_mtime_ns
    again = trainer(base, PRIOR)
    assert file.stat().st_mtime_ns == made
    assert first.prior
    assert again.prior
    assert len(first.prior) == 4
    for row in range(4):
        assert torch.equal(first.prior.take(row)[0]["mean"], again.prior.take(row)[0]["mean"])
        assert first.prior.take(row)[0]["mean"].shape == (8, 16, 16)
    assert first.prior.text_of == [0, 1, 0, 1]
    first.run(folder, "run", diary)
    assert all(np.isfinite(loss) for loss in diary.losses.values())


def test_class_pictures_of_another_precision_or_scheduler_are_others(base: Path, tmp_path: Path) -> None:
    pipe = load_pipeline(str(base), "cpu")
    for dtype in (torch.float32, torch.bfloat16):
        prepare_prior(family_of(pipe.to(dtype)), PRIOR, tmp_path)
    assert len(list((tmp_path / "prior").iterdir())) == 2
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type="sample")
    prepare_prior(family_of(pipe), PRIOR, tmp_path)
    assert len(list((tmp_path / "prior").iterdir())) == 3


def test_the_prior_keeps_what_the_base_could(base: Path, folder: FolderStore) -> None:
    losses = {}
    for name, spec in (("with", PRIOR), ("without", SPEC)):
        learner = trainer(base, spec.model_copy(update={"steps": 30, "checkpoint_every": 30, "sample_every": 30}))
        prior = prepare_prior(learner.family, PRIOR, base.parent / "cache")
        learner.run(folder, name, Diary())
        losses[name] = learner.learner.loss(validation_samples(prior, 0, 1000))
    assert losses["with"] < 0.7 * losses["without"]
