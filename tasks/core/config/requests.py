"""What each deployment is asked: one specification each, unknown keys refused, every field with a default."""

from typing import Literal

from pydantic import Field

from tasks.core.config.base import Spec
from tasks.core.config.presets import EvaluationSpec, GateSpec, IngestSpec, MonitorSpec, PolicySpec
from tasks.core.config.training import TrainSpec


class IngestRequest(Spec):
    """Make a dataset version of the uploads."""

    dataset: str = Field("", description="Dataset; empty means that of the settings.")
    ingest: IngestSpec | None = Field(None, description="Empty means the preset's.")


class TrainRequest(Spec):
    """Train a LoRA on a dataset version."""

    dataset: str = Field("", description="Dataset; empty means that of the settings.")
    version: str = Field("", description="Dataset version; empty means the newest.")
    base: str = Field("", description="Base of the Hub, ID@COMMIT; empty means that of the settings.")
    demand: tuple[str, ...] = Field((), description="Prompts that are asked for; pictures near them weigh more.")
    train: TrainSpec | None = Field(None, description="Empty means the preset's.")
    dry_run: bool = Field(False, description="Only tell what would be trained, and what a real step says of time.")
    attempt: int = Field(1, ge=1, le=8, description="Counts up when a crashed run is started again.")


class EvaluateRequest(Spec):
    """Compare a trained LoRA with the champion."""

    training: str = Field("", description="Key of the training; empty means the newest.")
    drifted: tuple[str, ...] = Field((), description="Prompts of drifted traffic, beside the fixed ones.")
    report: str = Field("", description="Drift report that the retrain answers; its window begins the new reference.")
    evaluation: EvaluationSpec | None = Field(None, description="Empty means the preset's.")
    gate: GateSpec | None = Field(None, description="For which guards get further looks; empty means the preset's.")


class PromoteRequest(Spec):
    """Gate an evaluated LoRA and record its promotion."""

    evaluation: str = Field("", description="Key of the evaluation; empty means the newest.")
    gate: GateSpec | None = Field(None, description="Empty means the preset's.")
    actor: str = Field("", description="A person who overrules the gate; needs a reason.")
    reason: str = Field("", description="Why the gate is overruled.")


class PublishRequest(Spec):
    """Point the champion channel at a generation."""

    generation: int = Field(0, ge=0, description="Generation; 0 means the newest of the ledger.")


class RetrainRequest(Spec):
    """Train, evaluate, promote and publish."""

    cause: str = Field("manual", description="What started it: drift, data or manual.")
    dataset: str = Field("", description="Dataset; empty means that of the settings.")
    decision: str = Field("", description="Id of the decision that started it.")
    report: str = Field("", description="Drift report that started it.")
    attempt: int = Field(1, ge=1, le=8, description="Counts up when a crashed run is started again.")


class MonitorRequest(Spec):
    """Check the last window of the prompt log for drift."""

    monitor: MonitorSpec | None = Field(None, description="Empty means the preset's.")
    policy: PolicySpec | None = Field(None, description="Empty means the preset's.")


class RollBackRequest(Spec):
    """Serve an older generation again."""

    generation: int = Field(0, ge=0, description="Generation to go back to; 0 means the one before the champion.")
    leaves: int = Field(0, ge=0, description="Do nothing unless this generation is served; 0 means whichever is.")
    actor: str = Field("operator", description="Who asks for it.")
    reason: str = Field("rolled back by hand", description="Why.")
    attempt: int = Field(1, ge=1, le=8, description="Counts up when a crashed run is started again.")


class AdoptRequest(Spec):
    """Make an existing LoRA generation 1."""

    source: str = Field("", description="Folder under the store that holds its files, such as adopted/adire.")
    actor: str = Field("operator", min_length=1, description="Who asks for it.")
    reason: str = Field("adopted by hand", min_length=1, description="Why.")


class WithdrawRequest(Spec):
    """Take a release back for good: it cannot be promoted, served or rolled back to any more."""

    generation: int = Field(0, ge=0, description="Generation whose release it is; 0 means `release` names it.")
    release: str = Field("", description="The release, where no generation is given.")
    delete_weights: bool = Field(False, description="Also delete its files from the stores.")
    actor: str = Field("operator", min_length=1, description="Who asks for it.")
    reason: str = Field("", description="Why; needed.")


class ReconcileRequest(Spec):
    """Put everything that follows from the ledger right: channels, aliases, the Hub."""


class CalibrateRequest(Spec):
    """Compare a model with itself on other seeds, and propose the gate's margins."""

    release: str = Field("", description="The release; empty means the champion, or the bare base before there is one.")
    evaluation: EvaluationSpec | None = Field(None, description="Empty means the preset's.")
    gate: GateSpec | None = Field(None, description="Empty means the preset's.")


class SteerRequest(Spec):
    """Pause retraining, or let it go on."""

    action: Literal["pause", "resume"] = Field("pause", description="resume also ends the hold after a roll-back.")
    actor: str = Field("operator", min_length=1, description="Who asks for it.")
    reason: str = Field("steered by hand", min_length=1, description="Why.")
