"""The trainer: a LoRA on the UNet; every random number is a function of (seed, step)."""

import math
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from tasks.core.clock import Stopwatch
from tasks.core.config.training import TrainSpec
from tasks.core.errors import Terminated, TrainingDiverged
from tasks.core.models.families import family_of
from tasks.core.models.images import NAN
from tasks.core.models.kohya import save_kohya
from tasks.core.models.pipeline import Pipeline
from tasks.core.models.rendering import pictures_of
from tasks.core.store import Store
from tasks.core.tracking.runs import PACKAGES
from tasks.core.training.checkpoints import Checkpoint, Validated, check_spec, newest_checkpoint, save_checkpoint
from tasks.core.training.dataset import Lesson, prepare
from tasks.core.training.distributed import Ranks
from tasks.core.training.learner import Learner
from tasks.core.training.memory import peak_mib
from tasks.core.training.prior import prepare_prior
from tasks.core.training.sampler import Draws
from tasks.core.training.termination import Termination, termination
from tasks.core.training.validation import best_of, is_over, validation_samples

SEEDS, STEPS, GUIDANCE = range(4), 12, 4.0


@torch.no_grad()
def sample(pipe: Pipeline, prompt: str, side: int) -> list[Image.Image]:
    """Four pictures, marked where they are not a number; no random number but their own is drawn."""
    drawn = pipe(
        [prompt] * len(SEEDS),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in SEEDS],
        height=side,
        width=side,
        output_type="np",
    ).images
    return pictures_of(pipe, drawn)


def environment(learner: Learner, ranks: Ranks) -> dict[str, str]:
    """Threads, micro-batch, processes, device and versions."""
    return {
        "threads": str(torch.get_num_threads()),
        "micro_batch": str(learner.micro),
        "processes": str(ranks.count),
        "device": learner.device.type,
        **{package: version(package) for package in PACKAGES},
    }


def changes(before: dict[str, str], now: dict[str, str]) -> str:
    """What has changed; empty when nothing has."""
    return ", ".join(f"{name} {old} -> {now.get(name, 'none')}" for name, old in before.items() if now.get(name) != old)


BEST = "best."
LARGEST = torch.finfo(torch.float16).max  # of a weight: on a GPU pictures are rendered in half precision


class Observer(Protocol):
    """Receives the progress of a training."""

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """After every optimiser step."""

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        """Sample pictures on the way."""

    def resumed(self, step: int) -> None:
        """The training resumes from a checkpoint."""

    def note(self, message: str) -> None:
        """A message for people."""


class Trainer:
    """One training run; `run` starts or resumes it."""

    def __init__(
        self,
        pipe: Pipeline,
        lesson: Lesson,
        spec: TrainSpec,
        cache: Path,
        trigger: str = "",
        meter: Stopwatch | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.pipe, self.spec, self.meter, self.ranks = pipe, spec, meter or Stopwatch(), ranks or Ranks()
        self.family = family_of(pipe)
        prior = None
        whole = spec.model_copy(update={"crop": "center", "flip": False})  # validation is deterministic
        chosen = lesson.held[: spec.validation.pictures] if spec.validation.every else ()
        with self.ranks.first():
            self.material = prepare(self.family, lesson.pictures, spec, cache)
            held = prepare(self.family, chosen, whole, cache)
            if spec.prior.prompts:
                prior = prepare_prior(self.family, spec, cache)
        self.prior = prior
        self.learner = Learner(self.family, spec, self.ranks)
        times = self.learner.noise.config.num_train_timesteps
        self.draws = Draws(self.material, prior, lesson.weights, spec, times)
        self.held = validation_samples(held, spec.seed, times)
        self.sample_prompt = spec.sample_prompt.replace("{trigger}", trigger)
        self.history: list[Validated] = []
        self.best: dict[str, Tensor] = {}

    def run(self, store: Store, folder: str, observer: Observer) -> None:
        """Train to the last step, from the newest checkpoint if there is one; the best LoRA is then in place.

        Raises:
            Terminated: SIGTERM was received; there is a checkpoint of the last step.
            TrainingDiverged: the loss is not finite any more, or the LoRA cannot be rendered with.
            CheckpointForeign: the checkpoints in this folder are of another specification.
        """
        if enlarged := self.material.enlarged():
            observer.note(enlarged)
        step = self._restore(store, folder, observer)
        stop = False
        with termination() as term:
            while not (stop or self._over(step)):
                step += 1
                stop = self._advance(step, term, observer)
                last = stop or self._over(step)
                if last or step % self.spec.checkpoint_every == 0:
                    self._keep(store, folder, step)
                if not last and step % self.spec.sample_every == 0:
                    self._show(step, observer)
        if stop:
            raise Terminated(step)
        if self.best:
            self.learner.put(self.best)
        self._check(step)
        self._show(step, observer, last=True)

    def _over(self, step: int) -> bool:
        return step >= self.spec.steps or is_over(self.history, self.spec.validation.patience)

    def _advance(self, step: int, term: Termination, observer: Observer) -> bool:
        metrics, stop = self.learner.step(step, self.draws.samples(step), term.asked)
        if metrics["loss"] != metrics["loss"]:
            raise TrainingDiverged(step)
        if self.held and (step % self.spec.validation.every == 0 or step == self.spec.steps):
            metrics["validation_loss"] = self._validate(step)
        observer.step(step, metrics)
        return stop if self.ranks.count > 1 else term.asked  # a single process decides alone

    def _validate(self, step: int) -> float:
        self.history.append(Validated(step=step, loss=self.learner.loss(self.held)))
        if best_of(self.history) is self.history[-1]:
            self.best = self.learner.weights()
        return self.history[-1].loss

    def _check(self, step: int) -> None:
        """Check the last weights: no forward pass has used them yet, unless they were validated."""
        largest = max(tensor.abs().max().item() for tensor in self.learner.weights().values())
        if not largest <= LARGEST:
            raise TrainingDiverged(step, f"the LoRA's largest weight is {largest:g}, at most {LARGEST:g} can be used,")
        if not math.isfinite(self.learner.loss(self.draws.samples(step))):
            raise TrainingDiverged(step)

    def _show(self, step: int, observer: Observer, last: bool = False) -> None:
        if self.ranks.rank == 0:
            pictures = sample(self.pipe, self.sample_prompt, self.spec.resolution)
            observer.samples(step, pictures)
            if last and any(NAN in picture.info for picture in pictures):
                raise TrainingDiverged(step, "the sample pictures are not a number")

    def _keep(self, store: Store, folder: str, step: int) -> None:
        if self.ranks.rank:
            return
        mark = Checkpoint(
            step=step,
            seconds=self.meter.seconds(),
            spec=self.spec,
            environment=environment(self.learner, self.ranks),
            validations=tuple(self.history),
        )
        best = {BEST + name: tensor for name, tensor in self.best.items()}
        save_checkpoint(store, folder, mark, self.learner.state() | best, self.spec.keep_checkpoints)

    def _restore(self, store: Store, folder: str, observer: Observer) -> int:
        found = newest_checkpoint(store, folder)
        if not found:
            return 0
        mark, tensors = found
        check_spec(folder, mark, self.spec)
        self.learner.micro = self.learner.micro or int(mark.environment.get("micro_batch", 0))
        self.meter.before = mark.seconds
        self.learner.restore(tensors)
        self.history = list(mark.validations)
        self.best = {n.removeprefix(BEST): tensor for n, tensor in tensors.items() if n.startswith(BEST)}
        observer.resumed(mark.step)
        if changed := changes(mark.environment, environment(self.learner, self.ranks)):
            observer.note(f"not bit-identical to an uninterrupted training, since conditions have changed: {changed}")
        return mark.step

    def save(self, folder: Path) -> None:
        """Write the adapter's file, and one in kohya's format, which has no place for the magnitudes of DoRA."""
        self.family.save(folder)
        if not self.spec.dora:
            save_kohya(self.family, self.spec, folder)

    def figures(self) -> dict[str, float]:
        """Peak memory, what was trained, and the validation that was best."""
        trained = sum(p.numel() for p in self.learner.parameters.values())
        whole = sum(p.numel() for p in self.pipe.unet.parameters()) - trained
        best = best_of(self.history)
        validated = {"best_step": float(best.step), "validation_loss": best.loss} if best else {}
        return {
            "peak_memory_mib": round(peak_mib(self.learner.device), 1),
            "trainable_parameters": float(trained),
            "trainable_share": trained / whole,
            "micro_batch": float(self.learner.micro),
        } | validated
