"""A dry run: what would be trained, and time and memory of a real step on this device."""

import time
from collections import Counter

from tasks.core.config.model import ModelConfig
from tasks.core.config.training import PriorSpec, TrainSpec, ValidationSpec
from tasks.core.data.dataset import load_manifest
from tasks.core.data.split import split
from tasks.core.installation import Installation
from tasks.core.models.identity import pinned
from tasks.core.models.pipeline import load_pipeline
from tasks.core.store.documents import Document
from tasks.core.training.dataset import Lesson
from tasks.core.training.fit import check, cut_captions, dtype_of, lesson_of
from tasks.core.training.plan import TrainPlan
from tasks.core.training.trainer import Trainer

TIMED = 3  # steps, after one that warms up


class Forecast(Document):
    """The forecast of a training; seconds are wall-clock, on this device and in one process."""

    key: str
    base: str
    dataset: str
    version: str
    pictures: int
    held: int
    captions: int
    shapes: dict[str, int]  # width x height of the pictures in the sample, once cropped
    steps: int
    epochs: float
    pictures_a_step: int
    micro_batch: int
    trainable_parameters: int
    trainable_share: float
    peak_memory_mib: float
    encoding_seconds: float  # of all pictures and captions, with an empty cache
    step_seconds: float
    expected_seconds: float
    remarks: tuple[str, ...] = ()


def forecast(installation: Installation, model: ModelConfig, plan: TrainPlan) -> Forecast:
    """Encode a step's pictures and do a few real steps with them; only the cache is written.

    Raises:
        SettingError, ModelUnusable, OutOfMemory: as the training itself would.
    """
    spec = plan.spec
    check(spec)
    manifest = load_manifest(installation.store, plan.dataset, plan.version)
    whole = lesson_of(installation, model, manifest, plan.demand)
    few = whole.pictures[: spec.effective]
    lesson = Lesson(few, whole.weights[: len(few)] / whole.weights[: len(few)].sum())
    settings = installation.settings
    pipe = load_pipeline(pinned(model.base, plan.base), settings.device, dtype_of(spec, settings.device))
    started = time.perf_counter()
    trainer = Trainer(pipe, lesson, _probing(spec), settings.cache, model.trigger)
    encoding = (time.perf_counter() - started) / len(few) * (len(whole.pictures) + len(whole.held))
    each = _step_seconds(trainer)
    figures = trainer.figures()
    scale = pipe.vae_scale_factor
    shapes = Counter(f"{width * scale} x {height * scale}" for _, height, width in trainer.material.shapes())
    return Forecast(
        key=plan.key,
        base=plan.base,
        dataset=plan.dataset,
        version=plan.version,
        pictures=len(whole.pictures),
        held=len(whole.held),
        captions=len({picture.caption for picture in whole.pictures}),
        shapes=dict(shapes),
        steps=spec.steps,
        epochs=round(spec.steps / -(-len(whole.pictures) // spec.effective), 2),
        pictures_a_step=_probing(spec).effective,
        micro_batch=int(figures["micro_batch"]),
        trainable_parameters=int(figures["trainable_parameters"]),
        trainable_share=figures["trainable_share"],
        peak_memory_mib=figures["peak_memory_mib"],
        encoding_seconds=round(encoding, 1),
        step_seconds=round(each, 4),
        expected_seconds=round(encoding + each * spec.steps, 1),
        remarks=(*split(installation.store, manifest).remarks(), *cut_captions(pipe.tokenizer, manifest.items)),
    )


def _probing(spec: TrainSpec) -> TrainSpec:
    """The same step without rendering class pictures: training pictures replace them."""
    beside = spec.prior.batch * spec.accumulation if spec.prior.prompts else 0
    update = {
        "batch": spec.effective + beside,
        "accumulation": 1,
        "prior": PriorSpec(),
        "validation": ValidationSpec(every=0),
    }
    return spec.model_copy(update=update)


def _step_seconds(trainer: Trainer) -> float:
    trainer.learner.step(1, trainer.draws.samples(1))
    started = time.perf_counter()
    for step in range(2, 2 + TIMED):
        trainer.learner.step(step, trainer.draws.samples(step))
    return (time.perf_counter() - started) / TIMED


def lines(found: Forecast) -> list[str]:
    """The forecast for people."""
    minutes = found.expected_seconds / 60
    return [
        f"training {found.key}: base {found.base}, dataset {found.dataset} version {found.version}",
        f"{found.pictures} pictures with {found.captions} captions, {found.held} held out; "
        f"cut to {', '.join(f'{shape} ({count})' for shape, count in found.shapes.items())}",
        f"{found.steps} steps of {found.pictures_a_step} pictures, {found.epochs:g} epochs; "
        f"{found.micro_batch} pictures a forward pass",
        f"{found.trainable_parameters:,} trainable parameters, {found.trainable_share:.2%} of the UNet",
        f"memory: {found.peak_memory_mib:.0f} MiB at most",
        f"time: {found.step_seconds:.3f} s a step, {found.encoding_seconds:.0f} s of encoding at first: "
        f"about {minutes:.1f} min, validation and sample pictures not counted",
        *found.remarks,
    ]
