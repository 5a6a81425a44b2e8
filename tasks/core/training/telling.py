"""What MLflow is told of a training before its first step and after its last."""

import resource
import sys

import torch
from torch.nn import Module

from tasks.core import tracking
from tasks.core.data.dataset import Manifest, manifest_key
from tasks.core.provenance import provenance
from tasks.core.settings import Settings
from tasks.core.training.plan import TrainPlan

MIB = 2**20


def open_training(settings: Settings, plan: TrainPlan, manifest: Manifest) -> str:
    """The id of the plan's run, with its parameters, specification, dataset and code."""
    spec = plan.spec.model_dump(mode="json")
    parameters = {"dataset": manifest.version, "base": plan.base, **tracking.flatten(spec)}
    run = tracking.open_run(f"{settings.model}-train", plan.key, plan.key, parameters, provenance())
    tracking.log_document(run, spec, "spec.json")
    key = manifest_key(manifest.dataset, manifest.version)
    tracking.log_dataset(run, manifest.dataset, manifest.version, key, len(manifest.items))
    return run


def close_training(run: str, steps_per_second: float, model: Module) -> None:
    """Log the final figures of a training, and end its run."""
    speed = {"steps_per_second_mean": steps_per_second}
    tracking.close_run(run, speed | _sizes(model) | {"peak_memory_mib": peak_memory_mib()})


def _sizes(model: Module) -> dict[str, float]:
    every = [(p.numel(), p.requires_grad) for p in model.parameters()]
    trained = sum(count for count, learns in every if learns)
    return {"trainable_parameters": trained, "trainable_share": trained / sum(count for count, _ in every)}


def peak_memory_mib() -> float:
    """The most memory that was in use at once: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB
