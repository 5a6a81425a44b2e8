"""Under which conditions a training runs: under the same ones it repeats bit for bit on a CPU."""

from importlib.metadata import version

import torch

from tasks.core.provenance import PACKAGES
from tasks.core.training.learner import Learner
from tasks.core.training.ranks import Ranks


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
    """What is not as it was; empty when all is."""
    return ", ".join(f"{name} {old} -> {now.get(name, 'none')}" for name, old in before.items() if now.get(name) != old)
