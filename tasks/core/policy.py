"""The retrain policy: a pure function of what was seen, what was decided before, and the time."""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from tasks.core.documents import Document, digest, read_documents, render
from tasks.core.registry.ledger import Entry
from tasks.core.specs import PolicySpec
from tasks.core.store import Store

Action = Literal["retrain", "none", "declined", "pause", "resume"]
Cause = Literal["drift", "data", "manual", "outcome", "operator"]


class Decision(Document):
    """A decision to retrain or not, how a retrain ended, or an operator's word, with its reasons."""

    id: str
    time: datetime
    cause: Cause
    action: Action
    reason: str
    dataset_version: str = ""
    generation: int = 0
    psi: float | None = None
    verdict: str = ""
    report: str = ""
    outcome_of: str = ""
    outcome: Literal["", "promote", "keep", "failed"] = ""


class Situation(Document):
    """All that the policy looks at beside the cause."""

    now: datetime
    history: tuple[Decision, ...] = Field(description="Earlier decisions, oldest first.")
    ledger: tuple[Entry, ...] = Field(description="All generations, oldest first.")
    dataset_version: str


def on_data(new_pictures: int, situation: Situation, spec: PolicySpec) -> tuple[Action, str]:
    """Decide when a dataset version is ready."""
    if blocked := _blocked(situation, spec, held=False):
        return "declined", blocked
    if not situation.ledger:
        return "retrain", "there is no champion yet"
    if new_pictures < spec.min_new_pictures:
        return "declined", f"{new_pictures} new pictures, {spec.min_new_pictures} start a retrain by themselves"
    return "retrain", f"{new_pictures} new pictures"


def on_drift(verdict: str, situation: Situation, spec: PolicySpec) -> tuple[Action, str]:
    """Decide after a drift check with this verdict."""
    if verdict != "retrain":
        return "none", f"the verdict is {verdict}"
    recent = [d.verdict for d in situation.history if d.cause == "drift"][1 - spec.of :] if spec.of > 1 else []
    hits = 1 + sum(v == "retrain" for v in recent)
    if hits < spec.hits:
        return "declined", f"{hits} of the last {spec.of} checks over the threshold, {spec.hits} are asked for"
    last = situation.ledger[-1] if situation.ledger else None
    if last and situation.now - last.time < timedelta(hours=spec.cooldown_hours):
        return "declined", f"cool-down: generation {last.generation} is less than {spec.cooldown_hours:g} h old"
    if blocked := _blocked(situation, spec, held=True):
        return "declined", blocked
    if any(d.outcome == "keep" and d.dataset_version == situation.dataset_version for d in situation.history):
        return (
            "declined",
            f"the gate kept the champion against dataset version {situation.dataset_version}; upload data",
        )
    return "retrain", "drift over the threshold"


def _blocked(situation: Situation, spec: PolicySpec, held: bool) -> str:
    """Why no retrain may start now, whatever the cause; empty when one may."""
    word = next((d for d in reversed(situation.history) if d.cause == "operator"), None)
    if word and word.action == "pause":
        return f"paused since {word.time:%Y-%m-%d %H:%M} ({word.reason}); steer-retraining with resume ends it"
    if held and (last := _hold(situation, word)):
        return (
            f"hold: generation {last.generation} is a roll-back; new data or steer-retraining with resume releases it"
        )
    if running := in_flight(situation, spec):
        return f"retrain {running.id} is in flight"
    week = [d for d in _retrains(situation) if situation.now - d.time < timedelta(days=7)]
    if len(week) >= spec.weekly_budget:
        return f"budget: {len(week)} retrains in the last week, {spec.weekly_budget} are allowed"
    return "mode advise: a person starts retrain-model" if spec.mode == "advise" else ""


def _hold(situation: Situation, word: Decision | None) -> Entry | None:
    """The roll-back that neither new data nor an operator has released yet."""
    last = situation.ledger[-1] if situation.ledger else None
    if last is None or last.action != "roll_back" or situation.dataset_version != last.dataset_version:
        return None
    return None if word and word.time > last.time else last


def in_flight(situation: Situation, spec: PolicySpec) -> Decision | None:
    """The retrain that has no outcome yet and is not too old to have one."""
    ended = {d.outcome_of for d in situation.history}
    young = situation.now - timedelta(hours=spec.stale_hours)
    return next((d for d in reversed(_retrains(situation)) if d.id not in ended and d.time > young), None)


def _retrains(situation: Situation) -> list[Decision]:
    return [d for d in situation.history if d.action == "retrain"]


def decision_id(cause: Cause, time: datetime, *parts: str) -> str:
    """A decision's name: when, and a hash of what it was about."""
    return f"{time:%Y%m%dT%H%M%S}-{digest(cause, time.isoformat(), *parts)[:8]}"


def record(store: Store, model: str, decision: Decision) -> None:
    """Keep a decision; the same one twice is kept once."""
    store.write(f"decisions/{model}/{decision.id}.json", render(decision))


def decisions(store: Store, model: str) -> list[Decision]:
    """All decisions, oldest first."""
    return sorted(read_documents(store, Decision, f"decisions/{model}/"), key=lambda d: d.time)
