"""The part of a training that needs its device: from the plan to the adapter's files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tasks.core.clock import Stopwatch
from tasks.core.config.model import ModelConfig
from tasks.core.config.training import TrainSpec
from tasks.core.data.dataset import Item, Manifest, load_manifest
from tasks.core.data.remarks import remark
from tasks.core.data.split import split
from tasks.core.installation import Installation
from tasks.core.models.clip import Clip
from tasks.core.models.device import pick_device
from tasks.core.models.identity import pinned
from tasks.core.models.pipeline import load_pipeline
from tasks.core.registry.results import checkpoint_folder
from tasks.core.training.dataset import Lesson, stored
from tasks.core.training.distributed import Ranks
from tasks.core.training.learner import AUTOCAST, check_processes
from tasks.core.training.optimiser import check_optimiser
from tasks.core.training.plan import TrainPlan
from tasks.core.training.sampler import demand_weights
from tasks.core.training.trainer import Observer, Trainer


def fit(
    installation: Installation, model: ModelConfig, plan: TrainPlan, observer: Observer, folder: Path, ranks: Ranks
) -> dict[str, float]:
    """Train, or resume from the newest checkpoint, and write the adapter to the folder; return the figures."""
    meter = Stopwatch(ranks.count)
    manifest = load_manifest(installation.store, plan.dataset, plan.version)
    lesson = lesson_of(installation, model, manifest, plan.demand)
    settings = installation.settings
    pipe = load_pipeline(pinned(model.base, plan.base), settings.device, dtype_of(plan.spec, settings.device))
    trainer = Trainer(pipe, lesson, plan.spec, settings.cache, model.trigger, meter, ranks)
    for line in cut_captions(trainer.pipe.tokenizer, manifest.items):
        observer.note(line)
    trainer.run(installation.store, checkpoint_folder(plan.model, plan.key), observer)
    if ranks.rank == 0:
        trainer.save(folder)
    return trainer.figures() | {"seconds": meter.seconds()}


def check(spec: TrainSpec) -> None:
    """Raise SettingError for what this machine cannot do, before any training time is spent."""
    check_processes(spec)
    check_optimiser(spec)


def dtype_of(spec: TrainSpec, device: str) -> torch.dtype:
    """The dtype of the base's weights: the compute dtype on a GPU, else float32."""
    return AUTOCAST[spec.precision] if pick_device(device).type == "cuda" else torch.float32


def cut_captions(tokenizer: Any, items: Sequence[Item]) -> list[str]:
    """A line on captions of more tokens than the base reads, start and end tokens included, if there are any."""
    most = tokenizer.model_max_length
    tokens = tokenizer([item.caption for item in items], verbose=False).input_ids
    longer = [f"{item.name} ({len(ids)})" for item, ids in zip(items, tokens, strict=True) if len(ids) > most]
    return remark(longer, "caption", f"of more than the {most} tokens that the base reads, cut")


def lesson_of(installation: Installation, model: ModelConfig, manifest: Manifest, demand: tuple[str, ...]) -> Lesson:
    """The pictures to train on, weighted by demand, and those held out; none is read yet."""
    parts = split(installation.store, manifest)
    weights = demand_weights(Clip(model, installation.settings.device), [item.caption for item in parts.train], demand)
    pictures, validated = (
        [stored(installation.store, manifest.dataset, i) for i in part] for part in (parts.train, parts.held)
    )
    return Lesson(pictures, weights, validated)
