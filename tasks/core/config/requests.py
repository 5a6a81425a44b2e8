"""The parameters of each deployment: one request class each, unknown keys rejected, a default for every field.

A request names its model; one without a name is for the only model. What a parent sends to a stage is resolved, and
carries the key that the stage must compute: see `PlanMismatch`.
"""

from typing import Literal

from pydantic import Field

from tasks.core.config.base import Spec
from tasks.core.config.presets import EvaluationSpec, GateSpec, IngestSpec, MonitorSpec, PolicySpec
from tasks.core.config.training import TrainSpec


class ModelRequest(Spec):
    """A request for one model."""

    model: str = Field("", description="Model; empty: the only one.")


class IngestRequest(Spec):
    """Create a dataset version of the uploads; an event is emitted for every model that subscribes to the dataset."""

    dataset: str = Field("", description="Dataset; empty: the only one that models subscribe to.")
    ingest: IngestSpec | None = Field(None, description="Empty: the model's.")


class TrainRequest(ModelRequest):
    """Train a LoRA on a dataset version."""

    dataset: str = Field("", description="Dataset; empty: the model's first.")
    version: str = Field("", description="Dataset version; empty: the pinned one, else the newest.")
    base: str = Field("", description="Base of the Hub, ID@COMMIT; empty: the model's.")
    demand: tuple[str, ...] = Field((), description="Prompts that are asked for; pictures near them weigh more.")
    train: TrainSpec | None = Field(None, description="Empty: the model's.")
    key: str = Field("", description="Key that the plan must have, as its parent has planned it; empty: any.")
    dry_run: bool = Field(False, description="Only report what would be trained, and time and memory of a real step.")
    attempt: int = Field(1, ge=1, le=8, description="Counts up when a crashed run is started again.")


class EvaluateRequest(ModelRequest):
    """Compare a trained LoRA with the champion."""

    training: str = Field("", description="Key of the training; empty: the newest.")
    drifted: tuple[str, ...] = Field((), description="Prompts of drifted traffic, beside the fixed ones.")
    report: str = Field("", description="Drift report that the retrain answers; its window begins the new reference.")
    evaluation: EvaluationSpec | None = Field(None, description="Empty: the model's.")
    gate: GateSpec | None = Field(None, description="For which guards get further looks; empty: the model's.")
    key: str = Field("", description="Key that the plan must have, as its parent has planned it; empty: any.")


class PromoteRequest(ModelRequest):
    """Gate an evaluated LoRA and record its promotion."""

    evaluation: str = Field("", description="Key of the evaluation; empty: the newest.")
    gate: GateSpec | None = Field(None, description="Empty: the model's.")
    actor: str = Field("", description="A person who overrules the gate; needs a reason.")
    reason: str = Field("", description="Why the gate is overruled.")
    key: str = Field("", description="Key that the plan must have, as its parent has planned it; empty: any.")


class PublishRequest(ModelRequest):
    """Point the champion channel at a generation."""

    generation: int = Field(0, ge=0, description="Generation; 0 means the newest of the ledger.")


class RetrainRequest(ModelRequest):
    """Train, evaluate, promote and publish."""

    cause: str = Field("manual", description="What started it: drift, data or manual.")
    dataset: str = Field("", description="Dataset; empty: the model's first.")
    decision: str = Field("", description="Id of the decision that started it; empty: a person did.")
    run: str = Field("", description="The first run, where a crashed one that a person has started is started again.")
    report: str = Field("", description="Drift report that started it.")
    attempt: int = Field(1, ge=1, le=8, description="Counts up when a crashed run is started again.")


class MonitorRequest(ModelRequest):
    """Check the last window of the prompt log for drift; without a model that of each one."""

    model: str = Field("", description="Model; empty: each one.")
    monitor: MonitorSpec | None = Field(None, description="Empty: the model's.")
    policy: PolicySpec | None = Field(None, description="Empty: the model's.")


class RollBackRequest(ModelRequest):
    """Serve an older generation again."""

    generation: int = Field(0, ge=0, description="Generation to go back to; 0 means the one before the champion.")
    leaves: int = Field(0, ge=0, description="Do nothing unless this generation is served; 0 means whichever is.")
    actor: str = Field("operator", description="Who asks for it.")
    reason: str = Field("rolled back by hand", description="Why.")
    attempt: int = Field(1, ge=1, le=8, description="Counts up when a crashed run is started again.")


class AdoptRequest(ModelRequest):
    """Make an existing LoRA generation 1."""

    source: str = Field("", description="Folder under the store that holds its files, such as adopted/adire.")
    actor: str = Field("operator", min_length=1, description="Who asks for it.")
    reason: str = Field("adopted by hand", min_length=1, description="Why.")


class WithdrawRequest(ModelRequest):
    """Withdraw a release: it cannot be promoted, served or rolled back to any more."""

    generation: int = Field(0, ge=0, description="Generation whose release it is; 0 means `release` names it.")
    release: str = Field("", description="The release, where no generation is given.")
    delete_weights: bool = Field(False, description="Also delete its files from the stores.")
    actor: str = Field("operator", min_length=1, description="Who asks for it.")
    reason: str = Field("", description="Why; needed.")


class ReconcileRequest(ModelRequest):
    """Reconcile everything that follows from the ledger: channels, aliases, the Hub; without a model for each one."""

    model: str = Field("", description="Model; empty: each one.")


class ReconcileUploadsRequest(Spec):
    """Ingest what was uploaded and whose notification was lost; without a dataset of each that models subscribe to."""

    dataset: str = Field("", description="Dataset; empty: each one.")


class CalibrateRequest(ModelRequest):
    """Compare a model with itself on other seeds, and propose the gate's margins."""

    release: str = Field("", description="The release; empty: the champion, or the bare base before there is one.")
    evaluation: EvaluationSpec | None = Field(None, description="Empty: the model's.")
    gate: GateSpec | None = Field(None, description="Empty: the model's.")


class SteerRequest(ModelRequest):
    """Pause or resume retraining."""

    action: Literal["pause", "resume"] = Field("pause", description="resume also ends the hold after a roll-back.")
    actor: str = Field("operator", min_length=1, description="Who asks for it.")
    reason: str = Field("steered by hand", min_length=1, description="Why.")


class Retention(Spec):
    """How long what can be swept is kept, in days since it was written, and how many releases."""

    generations: int = Field(10, ge=1, description="Newest releases to which a model can be rolled back.")
    checkpoints: float = Field(7, ge=1, description="Checkpoints of a training that has no result.")
    trainings: float = Field(30, ge=1, description="Results and adapters that no kept generation needs.")
    renders: float = Field(30, ge=1, description="Pictures of evaluations, which can be rendered again.")
    reports: float = Field(90, ge=1, description="Drift checks and their pages, calibrations, reports of sweeps.")
    prompts: float = Field(400, ge=1, description="The prompt log and the votes.")
    events: float = Field(30, ge=30, description="Events that were sent, and notifications that were seen.")
    refusals: float = Field(180, ge=1, description="Why uploads and events were refused.")
    data: float = Field(90, ge=1, description="Dataset versions and pictures that nothing needs.")
    artifacts: float = Field(30, ge=1, description="Artifacts of Prefect that have a newer version.")


class SweepRequest(Spec):
    """Delete what the inventory allows and nothing needs any more."""

    dry_run: bool = Field(False, description="Only report what would be deleted.")
    retention: Retention = Field(Retention(), description="How long what can be swept is kept.")


class ForgetRequest(Spec):
    """Delete a picture, or what a visitor has sent, from everything that holds it."""

    dataset: str = Field("", description="Dataset of the picture.")
    picture: str = Field("", description="The picture: its name among the uploads, or its sha256.")
    withdraw: bool = Field(False, description="Also withdraw, and delete, everything that was trained on the picture.")
    model: str = Field("", description="Model that the visitor has used; empty: the only one.")
    session: str = Field("", description="The visitor: the hash of the session, as the prompt log has it.")
    actor: str = Field("operator", min_length=1, description="Who asks for it.")
    reason: str = Field("a person has asked for it", min_length=1, description="Why.")
    dry_run: bool = Field(False, description="Only report what holds it.")
