"""Run specifications of training, evaluation, gate, policy and monitor.

Unknown keys are rejected with the nearest valid one, and all errors of a file are reported at once.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from tasks.core.config.base import Spec, explain, read_yaml
from tasks.core.config.drift import DriftSpec
from tasks.core.config.prompts import FULL, Prompts, load_prompts
from tasks.core.config.training import TrainSpec
from tasks.core.errors import SettingError

PRESETS = Path(__file__).parent / "presets"


class IngestSpec(Spec):
    """Limits for the pictures of a dataset, and what is expected of all of them together."""

    min_side: int = Field(32, ge=8, description="Shortest side a picture may have, in pixels.")
    max_bytes: int = Field(256_000_000, ge=1, description="Largest file that is read, in bytes.")
    max_pixels: int = Field(64_000_000, ge=1, description="Largest picture that is decoded, in pixels.")
    max_aspect: float = Field(8.0, ge=1, description="How many times as long as wide a picture may be.")
    instance_prompt: str = Field("a picture of cloth in {trigger}", description="Caption of a picture without one.")
    min_pictures: int = Field(1, ge=1, description="Fewest pictures that make a version.")
    max_refused: float = Field(
        1.0, ge=0, le=1, description="Largest share of the uploaded pictures that may be refused in a version."
    )
    require_trigger: bool = Field(False, description="Whether each caption of a version must hold the trigger word.")

    def filled(self, trigger: str) -> Self:
        """The specification with the model's trigger word in the instance prompt."""
        return self.model_copy(update={"instance_prompt": self.instance_prompt.replace("{trigger}", trigger)})


class EvaluationSpec(Spec):
    """How challenger and champion are compared."""

    prompts: Prompts = Field(
        default_factory=lambda: load_prompts(FULL),
        description="What is asked for: the name of a set in presets/prompts, the path of a .yaml file, or a set.",
    )
    seeds: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1, description="Seeds each prompt is rendered with.")
    steps: int = Field(25, ge=1, description="Denoising steps.")
    guidance: float = Field(7.5, ge=1, description="Guidance scale.")
    batch: int = Field(4, ge=1, description="Pictures rendered at once.")
    drifted: int = Field(12, ge=1, description="Prompts sampled from drifted traffic, at most.")
    references: int = Field(
        32,
        ge=1,
        description="Pictures the style is compared with, at most: held-out ones, or training pictures where none are.",
    )
    originals: int = Field(256, ge=1, description="Training pictures among which copied ones are looked for, at most.")
    near_quantile: float = Field(
        0.99,
        gt=0.5,
        lt=1,
        description="Quantile of the cosines between training pictures from which on a picture is a near-copy.",
    )
    copy_bits: int = Field(4, ge=0, le=32, description="Bits of 64 by which the perceptual hash of a copy may differ.")
    max_exact: float = Field(
        0.05, ge=0, le=1, description="Share of copies by that hash from which on the challenger is refused; 1: never."
    )


class Margins(Spec):
    """How much worse than the champion a challenger may be; at least four standard errors of an A/A calibration."""

    prompt_fidelity: float = Field(
        0.05, gt=0, description="In CLIPScore, on the fixed prompts, when there are drifted ones too."
    )
    style_fidelity: float = Field(0.05, gt=0, description="In mean cosine to pictures of the style.")
    diversity: float = Field(0.05, gt=0, description="In mean cosine distance between the pictures of a prompt.")
    forgetting: float = Field(0.05, gt=0, description="In CLIPScore on prompts without the trigger.")
    near_copies: float = Field(0.05, gt=0, description="In cosine to the nearest training picture.")
    render_seconds: float = Field(0.25, gt=0, description="As a share of the champion's time.")


class GateSpec(Spec):
    """The thresholds of the gate."""

    floor: float = Field(0.75, ge=0, description="Least mean CLIPScore over the fixed prompts.")
    max_seconds: float = Field(30.0, gt=0, description="Most seconds a picture may take.")
    max_mebibytes: float = Field(1024.0, gt=0, description="Most MiB the weights may take.")
    max_gap: float = Field(0.3, gt=0, description="Most by which the CLIPScores of two groups of prompts may differ.")
    max_copied: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Most pictures, as a share, that are as near to a training picture as few of "
        "those are to each other.",
    )
    max_nearness: float = Field(
        0.95,
        gt=0,
        le=1,
        description="Most mean cosine of a first model to the nearest training picture, without near-copies.",
    )
    max_forgetting: float = Field(
        0.15, gt=0, description="Most CLIPScore that a first model may lose on prompts without the trigger."
    )
    min_diversity: float = Field(0.02, ge=0, description="Least diversity of a first model, in mean cosine distance.")
    margins: Margins = Field(Margins(), description="How much worse than the champion it may be.")
    max_looks: int = Field(2, ge=0, le=8, description="Further looks with more seeds that an unsure guard may take.")
    resamples: int = Field(10_000, ge=100, description="Bootstrap resamples.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the bootstrap intervals.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap: the same scores always get the same decision.")


class PolicySpec(Spec):
    """When to retrain."""

    mode: Literal["auto", "advise"] = Field(
        "auto", description="auto retrains; advise says when it would, and a person starts retrain-model."
    )
    hits: int = Field(
        2, ge=1, description="Checks over the threshold that drift needs, of the last `of`, the latest among them."
    )
    of: int = Field(
        3,
        ge=1,
        le=50,
        description="Checks that are looked back on, against the same reference and no older than a week.",
    )
    spacing_minutes: float = Field(30.0, ge=0, description="Checks closer to each other than this count as one.")
    cooldown_hours: float = Field(
        12.0,
        ge=0,
        description="Hours after a promotion, a roll-back, or a failed or cancelled retrain in "
        "which drift starts nothing.",
    )
    weekly_gpu_hours: float = Field(3.5, ge=0, description="Device-hours that retrains may take in seven days.")
    expected_gpu_hours: float = Field(0.5, gt=0, description="Cost of a retrain while none has ended yet.")
    stale_hours: float = Field(24.0, gt=0, description="Hours after which a retrain that has not started is lost.")
    min_new_pictures: int = Field(64, ge=1, description="New pictures that start a retrain by themselves.")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.hits > self.of:
            raise ValueError(f"hits={self.hits} of the last {self.of} checks can never be: lower hits or raise of")
        return self


class MonitorSpec(Spec):
    """The window and the reference of a drift check."""

    window_hours: float = Field(24.0, gt=0, description="Length of the window that is checked.")
    reference_hours: float = Field(
        168.0, ge=0, description="Time that a reference must span: a week, since weekends differ from other days."
    )
    evidently: Literal["never", "drift", "always"] = Field(
        "drift",
        description="When Evidently's page (4 MB) is written; drift: as it begins or starts a retrain.",
    )
    drift: DriftSpec = Field(DriftSpec(), description="The drift detector.")


class RollbackSpec(Spec):
    """When the storefront asks for a roll-back of what it serves."""

    alpha: float = Field(
        0.01, gt=0, lt=0.5, description="Chance that a generation liked as much is ever taken back for its votes."
    )
    min_sessions: int = Field(
        25, ge=5, description="Sessions at the first look, and the fewest that count of the generation before."
    )
    usual_dislikes: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="Share of disliking sessions that stands for the one before where too few judged it.",
    )
    min_rise: float = Field(0.05, ge=0, lt=1, description="Least rise of that share that is worth a roll-back.")
    failures: int = Field(
        3, ge=1, le=100, description="Renders in a row that fail or show nothing by which a release is left."
    )
    check_seconds: float = Field(10.0, gt=0, description="How often new votes are counted and events sent again.")
    remembered: int = Field(
        10_000, ge=1, le=10_000_000, description="Newest pictures that can be voted on, for each process."
    )


class Preset(Spec):
    """All specifications of a model, as one YAML file holds them."""

    ingest: IngestSpec = Field(IngestSpec(), description="What pictures and dataset versions must be like.")
    train: TrainSpec = Field(TrainSpec(), description="How a LoRA is trained.")
    evaluation: EvaluationSpec = Field(EvaluationSpec(), description="How challenger and champion are compared.")
    gate: GateSpec = Field(GateSpec(), description="The thresholds of the gate.")
    policy: PolicySpec = Field(PolicySpec(), description="When to retrain.")
    monitor: MonitorSpec = Field(MonitorSpec(), description="The window and the reference of a drift check.")
    rollback: RollbackSpec = Field(RollbackSpec(), description="When the storefront asks for a roll-back.")


def load_preset(name: str) -> Preset:
    """The named preset, or that of a YAML file; raises SettingError with every fault of the file."""
    try:
        return Preset.model_validate(preset_values(name))
    except ValidationError as error:
        raise SettingError(name, explain(error, Preset)) from error


def preset_values(name: str) -> dict[str, object]:
    """The content of a preset's file, not validated; raises SettingError where there is none."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
        raise SettingError("preset", f"no preset {name!r}; take one of {known}, or the path of a .yaml file")
    return read_yaml(path)
