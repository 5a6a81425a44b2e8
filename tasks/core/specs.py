"""Run specifications: what a training, an evaluation, a gate, a policy are asked to do.

Unknown keys are refused with the nearest right one, and all errors of a file are told at once.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.core.drift.spec import DriftSpec
from tasks.core.errors import SettingError
from tasks.core.settings import get_settings

PRESETS = Path(__file__).parent / "presets"


class Spec(BaseModel):
    """A frozen specification that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class IngestSpec(Spec):
    """What a picture must be to enter a dataset."""

    min_side: int = Field(32, ge=8, description="Shortest side a picture may have, in pixels.")
    max_pixels: int = Field(64_000_000, ge=1, description="Largest picture that is decoded, in pixels.")
    instance_prompt: str = Field("a picture of cloth in adire_style", description="Caption of a picture without one.")


class PriorSpec(Spec):
    """Prior preservation: pictures of the class, rendered by the bare base, are trained on beside the new ones."""

    prompts: tuple[str, ...] = Field((), description="What the class pictures show; empty: no prior preservation.")
    pictures: int = Field(100, ge=1, description="Class pictures, over all prompts.")
    batch: int = Field(1, ge=1, description="Class pictures in each forward pass, beside the batch.")
    weight: float = Field(1.0, ge=0, description="Weight of their loss.")
    steps: int = Field(25, ge=1, description="Denoising steps they are rendered with.")
    guidance: float = Field(7.5, ge=1, description="Guidance scale they are rendered with.")


class TrainSpec(Spec):
    """A LoRA training."""

    resolution: int = Field(512, ge=16, multiple_of=8, description="Side of the training pictures, in pixels.")
    steps: int = Field(800, ge=1, description="Optimiser steps.")
    batch: int = Field(1, ge=1, description="Pictures a forward pass.")
    accumulation: int = Field(4, ge=1, description="Forward passes an optimiser step.")
    rank: int = Field(4, ge=1, description="Rank of the LoRA.")
    alpha: float = Field(4.0, gt=0, description="Alpha of the LoRA; its scale is alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of the inputs of the LoRA that a step leaves out.")
    rslora: bool = Field(False, description="Scale by alpha / sqrt(rank), which lets large ranks learn.")
    dora: bool = Field(False, description="Also learn the magnitude of each weight (DoRA); slower.")
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"), description="Endings of the names of the modules that get a LoRA."
    )
    learning_rate: float = Field(1e-4, gt=0, description="Learning rate of AdamW.")
    schedule: str = Field(
        "constant",
        pattern="^(constant|constant_with_warmup|linear|cosine|cosine_with_restarts|polynomial)$",
        description="Learning-rate schedule, one of diffusers'.",
    )
    warmup: int = Field(0, ge=0, description="Steps over which the learning rate rises.")
    clip_norm: float = Field(1.0, gt=0, description="Gradients with a larger norm are scaled down to it.")
    min_snr_gamma: float = Field(
        0.0, ge=0, description="Weighs times by min(SNR, gamma), arXiv:2303.09556; 5 is usual, 0 is off."
    )
    noise_offset: float = Field(0.0, ge=0, description="Noise by channel, which lets it learn dark and bright; 0: off.")
    seed: int = Field(42, ge=0, description="Seed of everything random.")
    prior: PriorSpec = PriorSpec()
    checkpoint_every: int = Field(100, ge=1, description="Steps between checkpoints.")
    sample_every: int = Field(400, ge=1, description="Steps between sample pictures.")
    sample_prompt: str = Field("a picture of cloth in {trigger}", description="Prompt of the sample pictures.")
    precision: str = Field("fp32", pattern="^(fp32|bf16)$", description="Precision of the forward pass.")


class EvaluationSpec(Spec):
    """How challenger and champion are compared."""

    prompts: tuple[str, ...] = Field((), description="The fixed prompts; {trigger} stands for the trigger word.")
    seeds: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1, description="Seeds each prompt is rendered with.")
    steps: int = Field(25, ge=1, description="Denoising steps.")
    guidance: float = Field(7.5, ge=1, description="Guidance scale.")
    batch: int = Field(4, ge=1, description="Pictures rendered at once.")
    drifted: int = Field(12, ge=1, description="Prompts sampled from drifted traffic, at most.")
    references: int = Field(32, ge=1, description="Training pictures the style is compared with, at most.")


class GateSpec(Spec):
    """What a challenger must show."""

    floor: float = Field(0.75, ge=0, description="Least mean CLIPScore over the fixed prompts.")
    max_seconds: float = Field(30.0, gt=0, description="Most seconds a picture may take.")
    resamples: int = Field(10_000, ge=100, description="Bootstrap resamples.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the bootstrap intervals.")
    fixed_margin: float = Field(0.1, ge=0, description="How much worse the fixed prompts may get against a champion.")
    diversity_margin: float = Field(0.05, ge=0, description="How much less diverse it may get against a champion.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")


class PolicySpec(Spec):
    """When to retrain."""

    mode: str = Field("auto", pattern="^(auto|advise)$", description="auto retrains; advise only says so.")
    hits: int = Field(2, ge=1, description="Checks over the threshold, of the last `of`, the latest among them.")
    of: int = Field(3, ge=1, le=50, description="Checks that are looked back on.")
    spacing_minutes: float = Field(30.0, ge=0, description="Checks closer to each other than this count as one.")
    cooldown_hours: float = Field(
        12.0, ge=0, description="Hours after a promotion or a failed retrain in which drift starts nothing."
    )
    weekly_gpu_hours: float = Field(3.5, ge=0, description="Device-hours that retrains may take in seven days.")
    expected_gpu_hours: float = Field(0.5, gt=0, description="Cost of a retrain while none has ended yet.")
    stale_hours: float = Field(24.0, gt=0, description="Hours after which a retrain without an outcome counts as lost.")
    min_new_pictures: int = Field(64, ge=1, description="New pictures that start a retrain by themselves.")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.hits > self.of:
            raise ValueError(f"hits={self.hits} of the last {self.of} checks can never be: lower hits or raise of")
        return self


class MonitorSpec(Spec):
    """What the monitor looks at."""

    window_hours: float = Field(24.0, gt=0, description="Length of the window that is checked.")
    reference_hours: float = Field(
        168.0, ge=0, description="Time that a reference must span: a week, since weekends differ from other days."
    )
    evidently: str = Field(
        "drift",
        pattern="^(never|drift|always)$",
        description="When Evidently's page (4 MB) is written; drift: as it begins or starts a retrain.",
    )
    drift: DriftSpec = DriftSpec()


class Preset(Spec):
    """All specifications of an installation, as one YAML file holds them."""

    ingest: IngestSpec = IngestSpec()
    train: TrainSpec = TrainSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    gate: GateSpec = GateSpec()
    policy: PolicySpec = PolicySpec()
    monitor: MonitorSpec = MonitorSpec()


def load_preset(name: str = "") -> Preset:
    """The named preset, that of the settings by default; raises SettingError with every fault of the file."""
    asked, name = ("preset" if name else "DYEWORKS_PRESET"), name or get_settings().preset
    path = Path(name) if name.endswith((".yaml", ".yml")) else PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
        raise SettingError(asked, f"no preset {name!r}; take one of {known}, or the path of a .yaml file")
    try:
        return Preset.model_validate(yaml.safe_load(path.read_text()) or {})
    except ValidationError as error:
        raise SettingError(str(path), explain(error, Preset)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(str(path), f"is not YAML: {error}") from error


def explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """All faults in words, a misspelt key with the nearest right one."""
    faults = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"]
        if fault["type"] == "extra_forbidden":
            near = get_close_matches(str(fault["loc"][-1]), _fields(kind, fault["loc"][:-1]), n=1)
            message = f"unknown key{f', did you mean {near[0]!r}?' if near else ''}"
        faults.append(f"{place}: {message}")
    return "; ".join(faults)


def _fields(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        annotation = kind.model_fields[str(part)].annotation if str(part) in kind.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        kind = annotation
    return list(kind.model_fields)
