"""The ledger of decisions on retrains: append-only, one writer for each number.

A rule decides on all decisions so far and is applied again whenever another process was first. So "one retrain in
flight", the weekly budget and a pause hold whatever monitor, ingest and people do at the same moment.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, TypedDict, Unpack, cast
from uuid import uuid4

from pydantic import Field

from tasks.core.store import Store
from tasks.core.store.documents import Document, digest
from tasks.core.store.journal import Journal

Action = Literal["retrain", "none", "declined", "pause", "resume"]
Cause = Literal["drift", "data", "manual", "outcome", "operator"]
Outcome = Literal["", "promote", "keep", "failed", "cancelled"]


class RetrainDecision(Document):
    """A decision to retrain or not, the outcome of a retrain, or an operator's action."""

    id: str
    subject: str = Field("", description="What it decides on; nothing is decided on twice.")
    writer: str = Field("", description="Set when it is appended: no two documents of the ledger are the same.")
    model: str = Field("", description="The model decided on; set when it is appended.")
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
    """A decision; subject and id are formed from the cause and `about`."""
    action, reason = ruling
    subject = subject_of(cause, about)
    name = f"{cause}-{action}-{subject[:8]}"
    return RetrainDecision(id=name, subject=subject, time=time, cause=cause, action=action, reason=reason, **details)


def subject_of(cause: Cause, about: str) -> str:
    """The subject of a decision: a check, a dataset version, a retrain that ended, a run."""
    return digest(cause, about)


def _journal(store: Store, model: str) -> Journal[RetrainDecision]:
    return Journal(store, f"models/{model}/decisions/", RetrainDecision)


def read_decisions(store: Store, model: str) -> list[RetrainDecision]:
    """All decisions, oldest first."""
    return _journal(store, model).read()


Rule = Callable[[list[RetrainDecision]], RetrainDecision | None]


def decide(store: Store, model: str, subject: str, rule: Rule) -> RetrainDecision | None:
    """Append the decision that a rule makes of all decisions so far.

    Returns:
        The decision as it was appended; that of an earlier call on the same subject; None where the rule makes none.
    """
    journal = _journal(store, model)
    while True:
        made = journal.read()
        if known := next((decision for decision in made if decision.subject == subject), None):
            return known
        if (decision := rule(made)) is None:
            return None
        named = decision.model_copy(update={"model": model, "subject": subject, "writer": uuid4().hex})
        if journal.append(len(made) + 1, named):
            return named


def record_decision(store: Store, model: str, decision: RetrainDecision) -> RetrainDecision:
    """Append a decision that depends on no other, such as an operator's; returns it as it was appended."""
    return cast(RetrainDecision, decide(store, model, decision.subject or decision.id, lambda _: decision))


def open_retrain(history: Sequence[RetrainDecision]) -> RetrainDecision | None:
    """The retrain that has no outcome: it is in flight, or its run has died (see `leases`)."""
    ended = {decision.outcome_of for decision in history}
    return next((d for d in reversed(history) if d.action == "retrain" and d.id not in ended), None)
