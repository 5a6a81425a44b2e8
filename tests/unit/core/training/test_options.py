"""What can be switched on in a training, and that nothing is when nothing is asked for."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from tasks.core.config.training import TrainSpec
from tasks.core.models.rendering import Renderer
from tasks.core.store import FolderStore
from tasks.core.training.checkpoints import newest_checkpoint
from tasks.core.training.objective import draw_noise, snr_weights, target_of
from tasks.core.training.trainer import Trainer
from tests.tiny import Cut, Diary
from tests.unit.core.training.test_training import SPEC, drawn_in_training, rendered, trainer

pytestmark = pytest.mark.any_key  # checkpoints lie in a folder that the caller names


@pytest.fixture
def base(pipelines: dict[str, Path], tmp_path: Path) -> Path:
    """A tiny base that predicts the velocity, as the embedded one does."""
    return Path(shutil.copytree(pipelines["sd2"], tmp_path / "sd2"))


def asking(**options: float | bool) -> TrainSpec:
    return TrainSpec.model_validate(SPEC.model_dump() | {"targets": ("to_q", "proj_in", "conv1"), **options})


def trained(base: Path, store: FolderStore, **options: float | bool) -> tuple[Trainer, Diary]:
    learner, diary = trainer(base, asking(**options)), Diary()
    learner.run(store, "-".join(options) or "plain", diary)
    return learner, diary


def plain_loss(learner: Trainer, step: int) -> Tensor:
    """The mean squared error of the velocity, as it was before there were options."""
    samples, schedule = learner.draws.samples(step), learner.learner.noise
    latents, noise = torch.stack([s.latents for s in samples]), torch.stack([s.noise for s in samples])
    texts, times = torch.stack([s.texts["hidden"] for s in samples]), torch.tensor([s.time for s in samples])
    predicted = learner.pipe.unet(schedule.add_noise(latents, noise, times), times, texts).sample
    errors: Tensor = (predicted - schedule.get_velocity(latents, noise, times)).square().mean((1, 2, 3))
    return (errors * torch.full((len(samples),), 1 / len(samples))).sum()


def plain_losses(learner: Trainer, steps: int) -> dict[int, float]:
    """Losses of a loop without options; its gradients are clipped to 1."""
    losses = {}
    for step in range(1, steps + 1):
        optimiser = learner.learner.optimiser
        optimiser.param_groups[0]["lr"] = learner.learner.rate(step)
        loss = plain_loss(learner, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(learner.learner.parameters.values()), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses[step] = loss.item()
    return losses


def test_nothing_asked_for_is_a_plain_training_bit_for_bit(base: Path, folder: FolderStore) -> None:
    assert trained(base, folder)[1].losses == plain_losses(trainer(base, asking()), SPEC.steps)


@pytest.mark.parametrize("norm", [0.001, 0.01])
def test_gradients_are_clipped_to_the_norm_asked_for(norm: float, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = trainer(base, asking(clip_norm=norm))
    seen: list[float] = []

    def look() -> None:
        grads = [p.grad for p in learner.learner.parameters.values() if p.grad is not None]
        seen.append(float(torch.cat([g.flatten() for g in grads]).norm()))

    monkeypatch.setattr(learner.learner.optimiser, "step", look)
    told = learner.learner.step(1, learner.draws.samples(1))[0]["grad_norm"]
    assert told > norm
    assert seen == [pytest.approx(norm, rel=1e-3)]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weighs_an_error_of_the_picture_by_the_smaller_of_snr_and_gamma(kind: str, gamma: float) -> None:
    noise = DDPMScheduler(prediction_type=kind)
    generator = torch.Generator().manual_seed(0)
    clean, drawn, wrong = (torch.randn((6, 4, 8, 8), generator=generator, dtype=torch.float64) for _ in range(3))
    times = torch.tensor([1, 50, 200, 400, 700, 999])
    bars = noise.alphas_cumprod[times].double()[:, None, None, None]
    noisy = noise.add_noise(clean, drawn, times)
    predicted = target_of(noise, clean, drawn, times) + 0.1 * wrong
    picture = {
        "epsilon": (noisy - (1 - bars).sqrt() * predicted) / bars.sqrt(),
        "v_prediction": bars.sqrt() * noisy - (1 - bars).sqrt() * predicted,
    }[kind]
    snr = (bars / (1 - bars)).flatten()
    expected = snr.clamp(max=gamma) * (picture - clean).square().mean((1, 2, 3))
    errors = (predicted - target_of(noise, clean, drawn, times)).square().mean((1, 2, 3))
    assert torch.allclose(snr_weights(noise, times, gamma) * errors, expected, rtol=1e-3)


def test_min_snr_off_weighs_all_times_alike() -> None:
    assert snr_weights(DDPMScheduler(), torch.tensor([0, 999]), 0).tolist() == [1, 1]


def first_loss(base: Path, **options: float) -> float:
    learner = trainer(base, asking(**options))
    return learner.learner.step(1, learner.draws.samples(1))[0]["loss"]


def test_min_snr_weighs_the_losses_of_a_training(base: Path) -> None:
    loss, weighed = (first_loss(base, min_snr_gamma=g) for g in (0.0, 0.01))
    assert 0 < weighed < 0.1 * loss


def test_offset_noise_moves_whole_channels_and_nothing_else() -> None:
    like = torch.zeros(200, 4, 16, 16)
    plain = draw_noise(like, 0.0, torch.Generator().manual_seed(0))
    offset = draw_noise(like, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(plain, torch.randn(like.shape, generator=torch.Generator().manual_seed(0)))
    moved = offset - plain
    assert moved.std((2, 3)).max() < 1e-6
    assert moved.mean((2, 3)).std() == pytest.approx(0.5, rel=0.1)


def test_offset_noise_is_what_a_training_adds(base: Path) -> None:
    assert first_loss(base, noise_offset=0.5) != first_loss(base)


def test_dropout_acts_in_steps_alone_and_resumes_bit_for_bit(base: Path, folder: FolderStore) -> None:
    learner, diary = trained(base, folder, dropout=0.5)
    _, plain = trained(base, folder)
    assert diary.losses[1] == plain.losses[1], "B begins at zero: there is nothing to leave out"
    assert diary.losses[3] != plain.losses[3]
    assert np.array_equal(drawn_in_training(learner), drawn_in_training(learner))
    with pytest.raises(Cut):
        trainer(base, learner.spec).run(folder, "cut", Diary(cut=5))
    torch.rand(7)  # a process of its own stands elsewhere in its random numbers
    second = Diary()
    trainer(base, learner.spec).run(folder, "cut", second)
    assert second.losses == {step: diary.losses[step] for step in (4, 5, 6)}
    straight, resumed = newest_checkpoint(folder, "dropout"), newest_checkpoint(folder, "cut")
    assert straight
    assert resumed
    assert all(torch.equal(resumed[1][name], tensor) for name, tensor in straight[1].items())


@pytest.mark.parametrize(("option", "scale"), [("rslora", SPEC.alpha / SPEC.rank**0.5), ("dora", 2.0)])
def test_the_switches_of_peft_are_trained_with_and_come_back(
    option: str, scale: float, base: Path, folder: FolderStore, tmp_path: Path
) -> None:
    learner, _ = trained(base, folder, **{option: True})
    learner.save(tmp_path / "adapter")
    magnitudes = [name for name in learner.learner.parameters if "lora_magnitude_vector" in name]
    assert bool(magnitudes) == (option == "dora")
    renderer = Renderer(str(base), "cpu")
    renderer.load(tmp_path / "adapter", "again")
    renderer.activate("again")
    assert {m.scaling["again"] for m in renderer.pipe.unet.modules() if getattr(m, "scaling", None)} == {scale}
    assert np.allclose(rendered(renderer), drawn_in_training(learner), atol=1)
