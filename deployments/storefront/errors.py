"""Errors of the storefront's API."""

from deployments.problems import ApiError
from tasks.core.errors import DocumentInvalid, ObjectMissing, ReleaseCorrupt, ReleaseWithdrawn

RELEASE_FAULTS = (DocumentInvalid, ObjectMissing, ReleaseCorrupt, ReleaseWithdrawn)  # of a release, not of a store


class FieldInvalid(ApiError):
    """A field of the request has a value that is refused."""

    code = "invalid_value"

    def __init__(self, param: str, problem: str) -> None:
        super().__init__(f"{param}: {problem}", param)


class ModelNotFound(ApiError):
    """The request names a model, generation or release that is not served here."""

    status = 404
    code = "model_not_found"

    def __init__(self, name: str, known: str) -> None:
        super().__init__(f"model: {name[:80]!r} is not served here; GET /v1/models lists what is: {known}", "model")


class PictureUnknown(ApiError):
    """Feedback refers to a picture that this storefront did not render, or rendered too long ago."""

    status = 404
    code = "picture_not_found"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"picture {request_id[:80]!r} is unknown or too old; send the id of a recent picture", "id")


class VotesExhausted(ApiError):
    """The vote on a picture was changed too often."""

    status = 429
    code = "too_many_votes"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"the vote on picture {request_id!r} was changed too often; the last vote counts", "id")


class QueueFull(ApiError):
    """As many pictures wait as may wait."""

    status = 429
    code = "queue_full"

    def __init__(self, most: int, retry_after: float = 5.0) -> None:
        super().__init__(f"{most} pictures can wait at once, and do; retry later", retry_after=retry_after)


class RenderUnavailable(ApiError):
    """The storefront cannot render now; the same request may succeed later."""

    status = 503
    code = "unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"no picture can be rendered now: {reason}; retry in a moment", retry_after=5.0)
        self.reason = reason


class ReleaseUnavailable(ApiError):
    """The release that is asked for can't be loaded; nothing else is drawn in its place."""

    status = 503
    code = "release_unavailable"

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(f"{model} can't be loaded: {problem}", "model", retry_after=30.0)


class PicturesFlagged(ApiError):
    """The safety checker has flagged all pictures of a request."""

    code = "content_policy_violation"

    def __init__(self) -> None:
        super().__init__("the pictures were flagged by the safety checker, and are not shown; ask for something else")
