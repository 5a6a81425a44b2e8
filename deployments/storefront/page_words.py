"""What the page says to a visitor when there is no picture: plain words, and when to try again."""

import math

from pydantic import ValidationError

from deployments.problems import Forbidden, Unauthorized
from deployments.storefront.bodies import LONGEST
from deployments.storefront.errors import (
    FieldInvalid,
    ModelNotFound,
    PicturesFlagged,
    PictureUnknown,
    QueueFull,
    ReleaseUnavailable,
    RenderUnavailable,
    VotesExhausted,
)
from tasks.core.access.errors import LimitExceeded

LONG = 120  # seconds from which minutes are said


PLAIN: dict[type[Exception], str] = {
    Unauthorized: "This model needs an API key, which this page cannot send. Choose another model, or draw by the API.",
    Forbidden: "The API key that was sent is not for this. Ask the operator of this storefront for one that is.",
    PicturesFlagged: "The safety check has kept back all of these pictures. Please describe something else.",
    ModelNotFound: "This model is no longer offered here. Choose another one.",
    ReleaseUnavailable: "This generation can't be loaded at the moment. Choose the newest one.",
    PictureUnknown: "This picture is too old to vote on; draw another one.",
    VotesExhausted: "You have changed this vote very often; the last one counts.",
}


def words(error: Exception) -> str:
    """What to tell a visitor."""
    match error:
        case RenderUnavailable():
            return f"Nothing can be drawn at the moment: {error.reason}. Please try again shortly."
        case QueueFull():
            return f"Very many pictures are waiting. Please try again in {duration(error.retry_after or 5)}."
        case LimitExceeded():
            fewer = ", or ask for fewer pictures at once" if error.asked > 1 else ""
            return f"You have drawn a lot in a short time. You can go on in {duration(error.retry_after)}{fewer}."
        case FieldInvalid():
            return f"That can't be drawn; {error}."
        case ValidationError():
            return _invalid(error)
        case _:
            return PLAIN.get(type(error), str(error))


def _invalid(error: ValidationError) -> str:
    first = error.errors()[0]
    field, given = str(first["loc"][0]), first.get("input")
    if field in {"prompt", "negative_prompt"} and isinstance(given, str) and len(given) > LONGEST:
        return f"That is too long: it has {len(given)} characters, and at most {LONGEST} are read."
    if field == "prompt":
        return "Describe what the picture should show."
    return f"{field}: {first['msg']}."


def duration(seconds: float) -> str:
    """A wait in words."""
    number, unit = (math.ceil(seconds / 60), "minute") if seconds >= LONG else (max(math.ceil(seconds), 1), "second")
    return f"{number} {unit}{'' if number == 1 else 's'}"
