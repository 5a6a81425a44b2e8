"""Notifications about the champion, as subject and text. Pure."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tasks.core import clock
from tasks.core.registry.ledger import Entry
from tasks.core.registry.results import PromotionResult
from tasks.core.store.documents import Document


class Notification(Document):
    """What happened, to which model, and why."""

    event: Literal["promoted", "kept", "rolled_back", "withdrawn"]
    model: str
    generation: int  # that is served now or soon; 0 where that has not changed
    verdict: str
    reason: str
    subject: str
    text: str
    time: datetime = Field(default_factory=clock.now)


def promotion_notification(model: str, result: PromotionResult, actor: str = "", word: str = "") -> Notification:
    """What the gate has decided, or a person (`actor`, with a reason) against it."""
    if not result.generation:
        return _of_keeping(model, result)
    found = result.decision
    who = f"by {actor}, who overruled the gate: {_sentence(word)}" if actor else "by the gate."
    return Notification(
        event="promoted",
        model=model,
        generation=result.generation,
        verdict=found.verdict,
        reason=word if actor else found.reason,
        subject=f"{model}: generation {result.generation} is the champion",
        text=_text(
            f"Generation {result.generation} of model {model} (release {result.release}) was promoted {who}",
            f"The gate's verdict: {found.verdict}. {_sentence(found.reason)}",
            f"Evaluation: results/evaluate/{result.evaluation}.json",
            f"Release: models/{model}/releases/{result.release}/",
        ),
    )


def _of_keeping(model: str, result: PromotionResult) -> Notification:
    found = result.decision
    return Notification(
        event="kept",
        model=model,
        generation=0,
        verdict=found.verdict,
        reason=found.reason,
        subject=f"{model}: the champion stays",
        text=_text(
            f"The challenger of model {model} was not promoted, what was served is served on.",
            f"The gate's verdict: {found.verdict}. {_sentence(found.reason)}",
            f"Evaluation: results/evaluate/{result.evaluation}.json",
        ),
    )


def roll_back_notification(model: str, entry: Entry) -> Notification:
    """An older generation, or the bare base, is served again."""
    what = f"generation {entry.restores} (release {entry.release})" if entry.release else "the bare base"
    left = f" Release {entry.abandons} was left; only a person promotes it again." if entry.abandons else ""
    return Notification(
        event="rolled_back",
        model=model,
        generation=entry.generation,
        verdict="roll back",
        reason=entry.reason,
        subject=f"{model}: rolled back to {what}",
        text=_text(
            f"Model {model} serves {what} again, as generation {entry.generation}.{left}",
            f"Asked for by {entry.actor}: {_sentence(entry.reason)}",
            "Drift starts no retrain until there is new data, or an operator runs steer-retraining with resume.",
            f"Ledger: models/{model}/promotions/{entry.generation:06d}.json",
        ),
    )


def withdrawal_notification(
    model: str, release: str, actor: str, reason: str, generation: int = 0, pending: tuple[str, ...] = ()
) -> Notification:
    """A release was taken back for good; `generation` is what is served in its place, 0 where it was not served.

    `pending` are the places where it is still to be withdrawn, each with the reason.
    """
    instead = f"Generation {generation} is served in its place." if generation else ""
    return Notification(
        event="withdrawn",
        model=model,
        generation=generation,
        verdict="withdraw",
        reason=reason,
        subject=f"{model}: a release was withdrawn",
        text=_text(
            f"Release {release} of model {model} was withdrawn: it is never promoted, served or rolled back to again.",
            instead,
            *(f"Withdrawal pending, retried by reconcile-champion: {place}" for place in pending),
            f"Asked for by {actor}: {_sentence(reason)}",
        ),
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _text(*lines: str) -> str:
    return "\n".join(line for line in lines if line)
