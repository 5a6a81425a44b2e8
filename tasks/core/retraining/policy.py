"""The retrain policy: a pure function of the situation."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Unpack

from pydantic import Field

from tasks.core.config.presets import PolicySpec
from tasks.core.registry.ledger import Entry
from tasks.core.retraining.decisions import Action, Cause, Details, RetrainDecision, make_decision, open_retrain
from tasks.core.store.documents import Document

RECENT = 5  # retrains whose mean cost is expected of the next
WEEK = timedelta(days=7)
ROUNDING = 1e-9
STEERING = ("pause", "resume")  # an action of an operator that only later versions know is none of these


class PastCheck(Document):
    """An earlier drift check."""

    time: datetime
    verdict: str
    generation: int


class Situation(Document):
    """The policy's input beside the cause."""

    now: datetime
    history: tuple[RetrainDecision, ...] = Field(description="Earlier decisions, oldest first.")
    ledger: tuple[Entry, ...] = Field(description="All generations, oldest first.")
    checks: tuple[PastCheck, ...] = Field((), description="Earlier drift checks, oldest first.")
    dataset: str = Field("", description="The dataset that a retrain would train on.")
    dataset_version: str = Field(description="The version that a retrain would take, or that new data has made.")
    pinned: str = Field("", description="The version that a person has pinned the dataset to; empty: none.")

    @property
    def trained(self) -> bool:
        """Whether the newest generation knows this version: its own, or that at the time of a roll-back."""
        last = self.ledger[-1]
        return (last.dataset, last.dataset_version) == (self.dataset, self.dataset_version)


def make_retrain_decision(
    cause: Cause,
    ruling: tuple[Action, str],
    situation: Situation,
    spec: PolicySpec,
    about: str,
    **details: Unpack[Details],
) -> RetrainDecision:
    """The decision of a ruling in a situation, with the expected cost of its retrain."""
    action, reason = ruling
    found: Details = {
        "dataset": situation.dataset,
        "dataset_version": situation.dataset_version,
        "generation": situation.ledger[-1].generation if situation.ledger else 0,
        "expected_gpu_hours": 0.0 if action == "none" else expected_hours(situation.history, spec),
    }
    found.update(details)
    if cost := found["expected_gpu_hours"]:
        reason += f"; a retrain takes about {cost:.2g} GPU-hours"
    return make_decision(cause, situation.now, (action, reason), about, **found)


def on_data(new_pictures: int, situation: Situation, spec: PolicySpec) -> tuple[Action, str]:
    """Decide when a dataset version is ready."""
    if situation.pinned not in {"", situation.dataset_version}:
        return "declined", f"the dataset is pinned to version {situation.pinned}; `dyeworks data unpin` ends it"
    if blocked := _blocked(situation, spec, held=False):
        return "declined", blocked
    if not situation.ledger:
        return "retrain", "there is no champion yet"
    if not situation.ledger[-1].release and not situation.trained:
        return "retrain", "the bare base is served"
    if new_pictures < spec.min_new_pictures:
        return "declined", f"{new_pictures} new pictures, {spec.min_new_pictures} are needed for an automatic retrain"
    return "retrain", f"{new_pictures} new pictures"


def on_drift(verdict: str, situation: Situation, spec: PolicySpec) -> tuple[Action, str]:
    """Decide after a drift check with this verdict."""
    if verdict != "retrain":
        return "none", f"the verdict is {verdict}"
    hits = 1 + sum(check.verdict == "retrain" for check in _recent(situation, spec))
    if hits < spec.hits:
        return "declined", f"{hits} of the last {spec.of} checks over the threshold, {spec.hits} are required"
    if cooling := _cooling(situation, spec):
        return "declined", cooling
    if blocked := _blocked(situation, spec, held=True):
        return "declined", blocked
    if any(d.outcome == "keep" and _same_data(d, situation) for d in situation.history):
        return (
            "declined",
            f"the gate kept the champion against dataset version {situation.dataset_version}; upload data",
        )
    return "retrain", "drift over the threshold"


def _same_data(decision: RetrainDecision, situation: Situation) -> bool:
    return (decision.dataset, decision.dataset_version) == (situation.dataset, situation.dataset_version)


def _recent(situation: Situation, spec: PolicySpec) -> list[PastCheck]:
    """The last `of` - 1 checks against the same reference: apart from each other, and no older than a week."""
    generation = situation.ledger[-1].generation if situation.ledger else 0
    found: list[PastCheck] = []
    later = situation.now
    for check in reversed([check for check in situation.checks if check.generation == generation]):
        if len(found) < spec.of - 1 and later - check.time >= timedelta(minutes=spec.spacing_minutes):
            found.append(check)
            later = check.time
    return [check for check in found if situation.now - check.time < WEEK]


def _blocked(situation: Situation, spec: PolicySpec, held: bool) -> str:
    """Why no retrain may start now, whatever the cause; empty when one may."""
    word = next((d for d in reversed(situation.history) if d.cause == "operator" and d.action in STEERING), None)
    if word and word.action == "pause":
        return f"paused since {word.time:%Y-%m-%d %H:%M} ({word.reason}); steer-retraining with resume ends it"
    if held and (last := _hold(situation, word)):
        return (
            f"hold: generation {last.generation} is a roll-back; new data or steer-retraining with resume releases it"
        )
    if running := open_retrain(situation.history):
        return f"retrain {running.id} is in flight"
    if spent := _overspent(situation, spec):
        return spent
    return "" if spec.mode == "auto" else f"mode {spec.mode}: a person starts retrain-model"


def _cooling(situation: Situation, spec: PolicySpec) -> str:
    since = situation.now - timedelta(hours=spec.cooldown_hours)
    last = situation.ledger[-1] if situation.ledger else None
    if last and last.time > since:
        return f"cool-down: generation {last.generation} is less than {spec.cooldown_hours:g} h old"
    ends = {d.outcome for d in situation.history if d.time > since}
    for outcome, verb in (("failed", "has failed"), ("cancelled", "was cancelled")):
        if outcome in ends:
            return f"cool-down: a retrain {verb} less than {spec.cooldown_hours:g} h ago"
    return ""


def _overspent(situation: Situation, spec: PolicySpec) -> str:
    """Why the week's GPU-hours don't allow one more; empty when they do."""
    spent, next_one = spent_hours(situation, spec), expected_hours(situation.history, spec)
    if spent + next_one <= spec.weekly_gpu_hours + ROUNDING:
        return ""
    return (
        f"budget: {spent:.3g} GPU-hours were spent in seven days, this retrain takes about {next_one:.3g}, "
        f"policy.weekly_gpu_hours allows {spec.weekly_gpu_hours:g}"
    )


def expected_hours(history: Sequence[RetrainDecision], spec: PolicySpec) -> float:
    """Expected cost of the next retrain: the mean of the last few that completed."""
    costs = [d.gpu_hours for d in history if d.outcome in ("promote", "keep") and d.gpu_hours > 0][-RECENT:]
    return sum(costs) / len(costs) if costs else spec.expected_gpu_hours


def spent_hours(situation: Situation, spec: PolicySpec) -> float:
    """GPU-hours of the last seven days: the actual cost of retrains that ended, the expected cost of others."""
    week = [d for d in situation.history if situation.now - d.time < WEEK]
    ended = {d.outcome_of for d in situation.history}
    expected = expected_hours(situation.history, spec)
    started = [d for d in week if d.action == "retrain" and d.id not in ended]
    return sum(d.gpu_hours for d in week) + sum(d.expected_gpu_hours or expected for d in started)


def _hold(situation: Situation, word: RetrainDecision | None) -> Entry | None:
    """The roll-back whose hold neither new data nor an operator has released."""
    last = situation.ledger[-1] if situation.ledger else None
    if last is None or last.action != "roll_back" or not situation.trained:
        return None
    return None if word and word.time > last.time else last
