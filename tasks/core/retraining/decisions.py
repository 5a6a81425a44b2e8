"""Decisions on retrains: their fields, how one is made, and where they are stored."""

from datetime import datetime
from typing import Literal, TypedDict, Unpack

from pydantic import Field

from tasks.core.store import Store
from tasks.core.store.documents import Document, digest, read_document, render

Action = Literal["retrain", "none", "declined", "pause", "resume"]
Cause = Literal["drift", "data", "manual", "outcome", "operator"]
IDLE = (["drift", "none"], ["drift", "declined"])  # cause and action of a check that started nothing, in its name
Outcome = Literal["", "promote", "keep", "failed", "cancelled"]


class RetrainDecision(Document):
    """A decision to retrain or not, the outcome of a retrain, or an operator's action."""

    id: str
    model: str = Field("", description="The model decided on; set when it is recorded.")
    time: datetime
    cause: Cause
    action: Action
    reason: str
    dataset: str = Field("", description="The dataset of the version, in a decision on new data.")
    dataset_version: str = ""
    new_pictures: int = Field(0, description="Pictures that no champion was trained on, in a decision on new data.")
    generation: int = 0
    psi: float | None = None
    verdict: str = ""
    report: str = ""
    outcome_of: str = ""
    outcome: Outcome = ""
    expected_gpu_hours: float = Field(0.0, description="Expected cost of the retrain.")
    costs: dict[str, float] = Field(
        {}, description="GPU-hours of an outcome, by the key of the training or evaluation."
    )
    gpu_hours: float = Field(0.0, description="Their sum.")


class Details(TypedDict, total=False):
    """The fields of a decision that not every cause has."""

    dataset: str
    dataset_version: str
    new_pictures: int
    generation: int
    psi: float | None
    verdict: str
    report: str
    outcome_of: str
    outcome: Outcome
    expected_gpu_hours: float
    costs: dict[str, float]
    gpu_hours: float


def make_decision(
    cause: Cause, time: datetime, ruling: tuple[Action, str], about: str, **details: Unpack[Details]
) -> RetrainDecision:
    """A decision at a time; its id is formed from the time and `about`."""
    action, reason = ruling
    name = decision_id(cause, action, time, about)
    return RetrainDecision(id=name, time=time, cause=cause, action=action, reason=reason, **details)


def decision_id(cause: Cause, action: Action, time: datetime, *parts: str) -> str:
    """A decision's id: time, cause, action, and a hash of its subject."""
    return f"{time:%Y%m%dT%H%M%S}-{cause}-{action}-{digest(cause, time.isoformat(), *parts)[:8]}"


def record_decision(store: Store, model: str, decision: RetrainDecision) -> RetrainDecision:
    """Store a decision, and return the stored one; idempotent."""
    named = decision.model_copy(update={"model": model})
    store.write(f"decisions/{model}/{decision.id}.json", render(named))
    return named


def read_decisions(store: Store, model: str, checks: int | None = None) -> list[RetrainDecision]:
    """All decisions, oldest first; with `checks` only the newest of the drift checks that started nothing.

    An hourly monitor makes thousands of these a year. All others are always read: retrains, outcomes and operators'
    actions count at any age.
    """
    prefix = f"decisions/{model}/"
    keys = [key for key in store.list(prefix) if key.endswith(".json")]
    idle = [key for key in keys if key.removeprefix(prefix).split("-")[1:3] in IDLE]
    left = set() if checks is None else set(idle[: max(len(idle) - checks, 0)])
    return sorted((read_document(store, RetrainDecision, key) for key in keys if key not in left), key=lambda d: d.time)
