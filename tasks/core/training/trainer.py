"""The trainer: a LoRA on the UNet; every random number is a function of (seed, step)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.optimization import get_scheduler
from PIL import Image
from torch import Tensor
from torch.nn import Parameter

from tasks.core.meter import Meter
from tasks.core.models import base_fingerprint
from tasks.core.settings import Settings
from tasks.core.store import Store
from tasks.core.training.checkpoints import device_seconds, newest_checkpoint, save_checkpoint
from tasks.core.training.kohya import save_kohya
from tasks.core.training.lora import add_lora, lora_dropouts, save_lora
from tasks.core.training.material import Material, prepare
from tasks.core.training.objective import draw_noise, snr_weights, target_of
from tasks.core.training.prior import prepare_prior
from tasks.core.training.spec import TrainSpec
from tasks.core.training.state import pack, unpack
from tasks.core.training.termination import termination


class Observer(Protocol):
    """Is told how a training goes."""

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """After every optimiser step."""

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        """Sample pictures on the way."""

    def resumed(self, step: int) -> None:
        """The training goes on from a checkpoint."""


@dataclass(frozen=True)
class Lesson:
    """The pictures to learn, their captions, and how often each is drawn."""

    pictures: list[Image.Image]
    captions: list[str]
    weights: npt.NDArray[np.float64]  # [n], sums to 1


class Trainer:
    """One training run; `run` starts or resumes it."""

    def __init__(
        self,
        pipe: StableDiffusionPipeline,
        lesson: Lesson,
        spec: TrainSpec,
        settings: Settings,
        meter: Meter | None = None,
    ) -> None:
        self.pipe, self.spec, self.lesson, self.meter = pipe, spec, lesson, meter or Meter()
        self.material: Material = prepare(pipe, lesson.pictures, lesson.captions, spec)
        self.prior = (
            prepare_prior(pipe, spec, base_fingerprint(settings), settings.cache) if spec.prior.prompts else None
        )
        self.parameters: dict[str, Parameter] = add_lora(pipe.unet, spec)
        self.dropouts = lora_dropouts(pipe.unet) if spec.dropout else []
        self._drop(False)
        self.optimiser = torch.optim.AdamW(list(self.parameters.values()), lr=spec.learning_rate)
        self.noise = DDPMScheduler.from_config(pipe.scheduler.config)
        schedule = get_scheduler(
            spec.schedule, self.optimiser, num_warmup_steps=spec.warmup, num_training_steps=spec.steps
        )
        self.rate = schedule.lr_lambdas[0]
        self.sample_prompt = spec.sample_prompt.replace("{trigger}", settings.trigger)

    def run(self, store: Store, key: str, observer: Observer) -> None:
        """Train to the last step, from the newest checkpoint if there is one.

        Raises:
            Terminated: SIGTERM came; there is a checkpoint of the last step that was made.
        """
        first = self._restore(store, key)
        if first:
            observer.resumed(first)
        with termination() as noted:
            for step in range(first + 1, self.spec.steps + 1):
                observer.step(step, self._step(step))
                if step % self.spec.checkpoint_every == 0 or step == self.spec.steps or noted.asked:
                    save_checkpoint(store, key, step, self._state(), self.meter.seconds())
                if noted.asked:
                    break
                if step % self.spec.sample_every == 0 or step == self.spec.steps:
                    observer.samples(step, self._sample())

    def save(self, folder: Path) -> None:
        """Write the adapter's file, and one in kohya's format, which has no place for the magnitudes of DoRA."""
        save_lora(self.pipe.unet, folder)
        if not self.spec.dora:
            save_kohya(self.pipe.unet, self.spec, self.noise.config.prediction_type, folder)

    def _step(self, step: int) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.spec.learning_rate * self.rate(step - 1)
        total = 0.0
        self._drop(True)
        for part in range(self.spec.accumulation):
            loss = self._loss(step, part) / self.spec.accumulation
            loss.backward()
            total += loss.item()
        self._drop(False)
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.spec.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return {"loss": total, "grad_norm": float(norm), "learning_rate": self.optimiser.param_groups[0]["lr"]}

    def _drop(self, on: bool) -> None:
        for module in self.dropouts:
            module.train(on)

    def _loss(self, step: int, part: int) -> Tensor:
        """Mean squared error of what the scheduler's config says is predicted, the prior's added with its weight."""
        rng = np.random.default_rng([self.spec.seed, step, part])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        means, deviations, text = self._draw(rng)
        latents = means + deviations * torch.randn(means.shape, generator=generator)
        noise = draw_noise(means, self.spec.noise_offset, generator)
        # Stratified over the batch: less variance than independent times.
        at = torch.randperm(len(means), generator=generator) + torch.rand(len(means), generator=generator)
        times = (at / len(means) * self.noise.config.num_train_timesteps).long()
        device, dtype = self.pipe.unet.device, self.pipe.unet.dtype
        noisy = self.noise.add_noise(latents, noise, times).to(device, dtype)
        target = target_of(self.noise, latents, noise, times)
        torch.manual_seed(int(rng.integers(2**62)))  # of dropout, the only thing that takes no generator
        with torch.autocast(device.type, torch.bfloat16, enabled=self.spec.precision == "bf16"):
            predicted = self.pipe.unet(noisy, times.to(device), text.to(device, dtype)).sample
        errors: Tensor = (predicted.float() - target.to(device).float()).square().mean((1, 2, 3))
        if self.spec.min_snr_gamma:
            errors = errors * snr_weights(self.noise, times, self.spec.min_snr_gamma).to(device)
        loss = errors[: self.spec.batch].mean()
        return loss + self.spec.prior.weight * errors[self.spec.batch :].mean() if self.prior else loss

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Latents' means and deviations, and texts, of the batch: pictures by their weights, then class pictures."""
        rows = rng.choice(len(self.lesson.pictures), self.spec.batch, p=self.lesson.weights)
        drawn = [self.material.take(rows)]
        if self.prior:
            drawn.append(self.prior.take(rng.integers(len(self.prior.means), size=self.spec.prior.batch)))
        means, deviations, texts = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        return means, deviations, texts

    def _state(self) -> dict[str, Tensor]:
        weights = {f"lora.{n}": p.detach().cpu().contiguous() for n, p in self.parameters.items()}
        return weights | pack(self.optimiser)

    def _restore(self, store: Store, key: str) -> int:
        found = newest_checkpoint(store, key)
        if not found:
            return 0
        step, tensors = found
        self.meter.before = device_seconds(store, key)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"lora.{name}"])
        unpack(self.optimiser, tensors)
        return step

    @torch.no_grad()
    def _sample(self) -> list[Image.Image]:
        generators = [torch.Generator("cpu").manual_seed(s) for s in range(4)]
        prompts = [self.sample_prompt] * 4
        pictures: list[Image.Image] = self.pipe(
            prompts,
            num_inference_steps=12,
            guidance_scale=4.0,
            generator=generators,
            height=self.spec.resolution,
            width=self.spec.resolution,
        ).images
        return pictures
