"""What the page says to a visitor when there is no picture: plain words, and when to try again."""

from functools import singledispatch

from pydantic import ValidationError

from deployments.storefront.bodies import LONGEST
from deployments.storefront.errors import (
    FieldInvalid,
    Forbidden,
    ModelNotFound,
    PicturesFlagged,
    PictureUnknown,
    QueueFull,
    ReleaseUnavailable,
    RenderUnavailable,
    Unauthorized,
    VotesExhausted,
)
from deployments.storefront.problems import wait_seconds
from tasks.core.access.errors import LimitExceeded


@singledispatch
def words(error: Exception) -> str:
    """What to tell a visitor."""
    return str(error)


@words.register
def _(error: RenderUnavailable) -> str:
    return f"Nothing can be drawn at the moment: {error.reason}. Please try again shortly."


@words.register
def _(error: QueueFull) -> str:
    return f"Very many pictures are waiting. Please try again in {seconds(error.retry_after or 5)}."


@words.register
def _(error: LimitExceeded) -> str:
    fewer = ", or ask for fewer pictures at once" if error.asked > 1 else ""
    return f"You have drawn a lot in a short time. You can go on in {seconds(error.retry_after)}{fewer}."


@words.register
def _(_: Unauthorized) -> str:
    return "This model needs an API key, which this page cannot send. Choose another model, or draw by the API."


@words.register
def _(_: Forbidden) -> str:
    return "The API key that was sent is not for this. Ask the operator of this storefront for one that is."


@words.register
def _(_: PicturesFlagged) -> str:
    return "The safety check has kept back all of these pictures. Please describe something else."


@words.register
def _(_: ModelNotFound) -> str:
    return "This model is no longer offered here. Choose another one."


@words.register
def _(_: ReleaseUnavailable) -> str:
    return "This generation can't be loaded at the moment. Choose the newest one."


@words.register
def _(error: FieldInvalid) -> str:
    return f"That can't be drawn; {error}."


@words.register
def _(_: PictureUnknown) -> str:
    return "This picture is too old to vote on; draw another one."


@words.register
def _(_: VotesExhausted) -> str:
    return "You have changed this vote very often; the last one counts."


@words.register
def _(error: ValidationError) -> str:
    first = error.errors()[0]
    field, given = str(first["loc"][0]), first.get("input")
    if field in {"prompt", "negative_prompt"} and isinstance(given, str) and len(given) > LONGEST:
        return f"That is too long: it has {len(given)} characters, and at most {LONGEST} are read."
    if field == "prompt":
        return "Describe what the picture should show."
    return f"{field}: {first['msg']}."


def seconds(number: float) -> str:
    """A wait in words."""
    rounded = wait_seconds(number)
    return f"{rounded} second{'' if rounded == 1 else 's'}"
