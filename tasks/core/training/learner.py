"""The learner: a base model with a LoRA, and its optimiser step."""

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.utils import clip_grad_norm_

from tasks.core.config.training import TrainSpec
from tasks.core.errors import SettingError
from tasks.core.models.families import Family
from tasks.core.training.checkpoints import pack, unpack
from tasks.core.training.distributed import Ranks
from tasks.core.training.memory import explained, probe
from tasks.core.training.objective import snr_weights
from tasks.core.training.optimiser import learning_rate, make_optimiser
from tasks.core.training.sampler import Forward, Sample, forwards


def add_lora(unet: UNet2DConditionModel, spec: TrainSpec) -> dict[str, Parameter]:
    """Add a seeded LoRA and return its parameters by name; all others are frozen."""
    unet.requires_grad_(False)
    names = [n for n, m in unet.named_modules() if n.endswith(spec.targets) and hasattr(m, "weight")]
    if not names:
        raise SettingError("train.targets", f"no module of the UNet ends in any of {', '.join(spec.targets)}")
    torch.manual_seed(spec.seed)
    unet.add_adapter(_config(spec, names))
    cast_training_params(unet, dtype=torch.float32)
    return {n: p for n, p in unet.named_parameters() if p.requires_grad}


def lora_dropouts(unet: UNet2DConditionModel) -> list[Module]:
    """The LoRA's dropouts; peft leaves them on, in sample pictures too."""
    return [module for name, module in unet.named_modules() if name.endswith(".lora_dropout")]


def _config(spec: TrainSpec, names: list[str]) -> LoraConfig:
    return LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        init_lora_weights="gaussian",
        target_modules=names,
        lora_dropout=spec.dropout,
        use_rslora=spec.rslora,
        use_dora=spec.dora,
    )


AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
LORA, SCALER = "lora.", "scaler."


class Learner:
    """Optimiser steps; the same samples give the same LoRA, in however many forward passes and processes."""

    def __init__(self, family: Family, spec: TrainSpec, ranks: Ranks) -> None:
        self.family, self.spec, self.ranks = family, spec, ranks
        self.unet, self.device = family.pipe.unet, family.pipe.unet.device
        self.parameters: dict[str, Parameter] = add_lora(self.unet, spec)
        self.dropouts = lora_dropouts(self.unet) if spec.dropout else []
        self._drop(False)
        self._equip()
        self.optimiser = make_optimiser(list(self.parameters.values()), spec)
        self.rate = learning_rate(self.optimiser, spec)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=spec.precision == "fp16")
        self.noise = DDPMScheduler.from_config(family.pipe.scheduler.config)
        self.micro = spec.compute.micro_batch  # pictures a forward pass; 0: not yet known

    def _equip(self) -> None:
        compute = self.spec.compute
        if compute.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        if compute.channels_last:
            self.unet.to(memory_format=torch.channels_last)
        if compute.compile:
            self.unet.compile()

    def step(self, step: int, samples: list[Sample], asked: bool = False) -> tuple[dict[str, float], bool]:
        """One optimiser step, counted from 1; its figures, and whether any process should stop.

        Raises:
            OutOfMemory: with what can be changed.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(step)
        mine = samples[self.ranks.rank :: self.ranks.count]
        self.find_micro(samples)
        stop = torch.tensor(float(asked), device=self.device)
        loss = self._gradients(mine, (self.spec.seed, step, self.ranks.rank))
        self.ranks.add_up([stop, loss, *self._grads()])
        self.scaler.unscale_(self.optimiser)
        norm = clip_grad_norm_(list(self.parameters.values()), self.spec.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad()
        return {"loss": loss.item(), "grad_norm": norm.item(), "learning_rate": self.rate(step)}, bool(stop)

    def _gradients(self, samples: list[Sample], seed: tuple[int, ...]) -> Tensor:
        """Accumulate the gradients of the weighted errors; return the sum of these errors."""
        total = torch.zeros((), device=self.device)
        self._drop(True)
        for forward in forwards(samples, self.noise, self.micro, seed):
            weights = forward.weights * snr_weights(self.noise, forward.times, self.spec.min_snr_gamma)
            if self.dropouts:
                torch.manual_seed(forward.seed)  # dropout takes no generator
            with explained(self.spec, len(weights)):
                loss = (self.errors(forward) * weights.to(self.device)).sum()
                self.scaler.scale(loss).backward()
            total += loss.detach()
        self._drop(False)
        return total

    def errors(self, forward: Forward) -> Tensor:
        """Mean squared error of what is predicted, float32 [n]."""
        dtype = AUTOCAST[self.spec.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            predicted = self.family.denoise(forward.noisy, forward.times, forward.texts, forward.sizes)
        return (predicted.float() - forward.target.to(self.device)).square().mean((1, 2, 3))

    @torch.no_grad()
    def loss(self, samples: list[Sample]) -> float:
        """The weighted errors without gradients; no random number is drawn."""
        mine = samples[self.ranks.rank :: self.ranks.count]
        self.find_micro(samples)
        total = torch.zeros((), device=self.device)
        for forward in forwards(mine, self.noise, self.micro, ()):
            total += (self.errors(forward) * forward.weights.to(self.device)).sum()
        self.ranks.add_up([total])
        return total.item()

    def find_micro(self, samples: list[Sample]) -> None:
        """Find once how many pictures a forward pass can hold."""
        if self.micro:
            return
        largest = max(samples, key=lambda sample: sample.latents.numel())
        most = -(-len(samples) // self.ranks.count)

        def attempt(count: int) -> None:
            self.micro = count
            self._gradients([largest] * count, (0,))
            self.optimiser.zero_grad()

        self.micro = probe(attempt, most, self.device)

    def _grads(self) -> list[Tensor]:
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]

    def _drop(self, on: bool) -> None:
        for module in self.dropouts:
            module.train(on)

    def weights(self) -> dict[str, Tensor]:
        """A copy of the LoRA, on the CPU."""
        return {name: p.detach().cpu().clone().contiguous() for name, p in self.parameters.items()}

    @torch.no_grad()
    def put(self, weights: dict[str, Tensor]) -> None:
        """Set the LoRA."""
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])

    def state(self) -> dict[str, Tensor]:
        """The state that the next step depends on."""
        lora = {LORA + name: tensor for name, tensor in self.weights().items()}
        scaler = {SCALER + name: torch.tensor(value) for name, value in self.scaler.state_dict().items()}
        return lora | scaler | pack(self.optimiser)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore a state."""
        self.put({name.removeprefix(LORA): tensor for name, tensor in tensors.items() if name.startswith(LORA)})
        scaler = {n.removeprefix(SCALER): t.item() for n, t in tensors.items() if n.startswith(SCALER)}
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(scaler)
        unpack(self.optimiser, tensors)


def check_processes(spec: TrainSpec) -> None:
    """Raise SettingError when some process would have nothing to do."""
    count = spec.effective
    if spec.compute.processes > count:
        problem = f"{spec.compute.processes} processes for {count} pictures a step"
        raise SettingError("train.compute.processes", f"{problem}; take at most {count}, or a larger batch")
