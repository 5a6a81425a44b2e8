"""What the storefront answers with a 4xx or a 503."""

from tasks.core.errors import DyeworksError


class PictureUnknown(DyeworksError):
    """Feedback names a picture that this storefront did not draw, or drew too long ago."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"no picture {request_id!r} was drawn here lately; send the X-Request-Id of one that was")
        self.request_id = request_id


class VotesExhausted(DyeworksError):
    """The vote on a picture was changed too often."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"the vote on picture {request_id!r} was changed too often; the last one stays")
        self.request_id = request_id


class RenderUnavailable(DyeworksError):
    """The storefront cannot draw a picture now; the same request may succeed later."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no picture can be drawn now: {reason}; try again in a moment")
        self.reason = reason
