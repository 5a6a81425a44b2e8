"""The training loop of the base's parts: resumable, with progress, an average of the weights, and time left."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from tasks.core.training.checkpoints import pack, unpack

Weights = dict[str, Tensor]
B = TypeVar("B")


@dataclass
class Loop:
    """Steps over a model; killed and started again, it goes on from its newest state in `folder`."""

    name: str
    model: Module
    optimisers: list[Optimizer]
    steps: int
    folder: Path
    warm: int = 50  # steps
    fall: float = 0.35  # the share of the steps over which the rate falls to zero
    peak: float = 1.0  # times the optimisers' own rates
    decay: float = 0.995  # of the average
    keep_every: int = 100  # steps

    def run(self, loss: Callable[[int], Tensor], keep: Callable[[Weights], object] = lambda _: None) -> Weights:
        """Train to the last step; the averaged weights. `keep` is given them with every state that is saved."""
        average = {k: v.clone() for k, v in self.model.state_dict().items()}
        first = self._load(average)
        base_rates = [[group["lr"] for group in o.param_groups] for o in self.optimisers]
        clock = _Clock(self.name, first, self.steps)
        for step in range(first + 1, self.steps + 1):
            rate = self.peak * min(1.0, step / self.warm, (self.steps - step + 1) / (self.fall * self.steps))
            for optimiser, rates in zip(self.optimisers, base_rates, strict=True):
                for group, own in zip(optimiser.param_groups, rates, strict=True):
                    group["lr"] = rate * own
            value = loss(step)
            self.model.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(list(self.model.parameters()), 1.0)
            for optimiser in self.optimisers:
                optimiser.step()
            _blend(average, self.model, min(self.decay, step / (step + 10)))
            clock.tick(step, value)
            if step % self.keep_every == 0 or step == self.steps:
                self._save(average, step)
                keep(average)
        return average

    def _save(self, average: Weights, step: int) -> None:
        """Write weights, averages and optimiser states; step.json, written last, makes them valid."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in average.items()}
        for i, optimiser in enumerate(self.optimisers):
            tensors |= pack(optimiser, f"optimiser{i}")
        name = f"state-{step % 2}.safetensors"
        save_file({k: v.clone().contiguous() for k, v in tensors.items()}, self.folder / name)
        (self.folder / "step.tmp").write_text(json.dumps({"step": step, "file": name}), encoding="utf-8")
        (self.folder / "step.tmp").rename(self.folder / "step.json")

    @property
    def done(self) -> int:
        """The step of the newest state, 0 when there is none."""
        path = self.folder / "step.json"
        return int(json.loads(path.read_text(encoding="utf-8"))["step"]) if path.exists() else 0

    def _load(self, average: Weights) -> int:
        """Restore the newest state; the step it was written at, 0 when there is none."""
        step = self.done
        if not step:
            return 0
        entry = json.loads((self.folder / "step.json").read_text(encoding="utf-8"))
        device = next(iter(average.values())).device.type
        tensors = load_file(self.folder / entry["file"], device=device)
        self.model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        average.update({k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")})
        for i, optimiser in enumerate(self.optimisers):
            unpack(optimiser, tensors, f"optimiser{i}")
        return step

    def batches(self, data: Dataset[B], workers: int) -> Iterator[B]:
        """The batches of the steps that are left, drawn ahead by `workers` processes."""
        steps = list(range(self.done + 1, self.steps + 1))
        return iter(DataLoader(data, batch_size=None, sampler=steps, num_workers=workers))


@torch.no_grad()
def _blend(average: Weights, model: Module, decay: float) -> None:
    """Exponential moving average of the weights."""
    for name, value in model.state_dict().items():
        average[name].lerp_(value, 1 - decay) if value.is_floating_point() else average[name].copy_(value)


class _Clock:
    """Prints a line of progress with the time left, at most every 20 seconds."""

    def __init__(self, name: str, first: int, last: int) -> None:
        self.name, self.first, self.last = name, first, last
        self.start = self.shown = time.monotonic()

    def tick(self, step: int, loss: Tensor) -> None:
        now = time.monotonic()
        if now - self.shown > 20 or step == self.last:
            self.shown = now
            left = (now - self.start) / (step - self.first) * (self.last - step)
            print(f"{self.name} {step}/{self.last} loss {loss.item():.4f} left {left / 60:.1f} min", flush=True)
