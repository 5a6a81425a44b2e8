"""The optimiser, and its learning rate at each step."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from diffusers.optimization import get_scheduler
from torch.nn import Parameter
from torch.optim import Optimizer

from tasks.core.config.training import TrainSpec
from tasks.core.errors import SettingError


def make_optimiser(parameters: list[Parameter], spec: TrainSpec) -> Optimizer:
    """AdamW, fused, or with its state in eight bits (Dettmers et al. 2022, https://arxiv.org/abs/2110.02861)."""
    if spec.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=spec.learning_rate, fused=True)
    check_optimiser(spec)
    from bitsandbytes.optim import AdamW8bit  # noqa: PLC0415  an optional package

    optimiser: Optimizer = AdamW8bit(parameters, lr=spec.learning_rate)
    return optimiser


def check_optimiser(spec: TrainSpec) -> None:
    """Raise SettingError when its package is not installed."""
    if spec.optimiser == "adamw_8bit" and not find_spec("bitsandbytes"):
        advice = "install the group `gpu` (pip install --no-deps -r infra/gpu.lock), or set it to adamw"
        raise SettingError("train.optimiser", f"adamw_8bit needs bitsandbytes: {advice}")


def learning_rate(optimiser: Optimizer, spec: TrainSpec) -> Callable[[int], float]:
    """The learning rate of each step, which are counted from 1, by the schedule of diffusers."""
    schedule = get_scheduler(spec.schedule, optimiser, num_warmup_steps=spec.warmup, num_training_steps=spec.steps)
    share: Callable[[int], float] = schedule.lr_lambdas[0]
    return lambda step: spec.learning_rate * share(step - 1)
