"""Errors that the storefront maps to a 4xx or a 503."""

from tasks.core.errors import DyeworksError


class PictureUnknown(DyeworksError):
    """Feedback refers to a picture that this storefront did not render, or rendered too long ago."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"picture {request_id!r} is unknown or too old; send the X-Request-Id of a recent picture")
        self.request_id = request_id


class VotesExhausted(DyeworksError):
    """The vote on a picture was changed too often."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"the vote on picture {request_id!r} was changed too often; the last vote counts")
        self.request_id = request_id


class RenderUnavailable(DyeworksError):
    """The storefront cannot render now; the same request may succeed later."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no picture can be rendered now: {reason}; retry in a moment")
        self.reason = reason


class Unauthorized(DyeworksError):
    """A request needs an API key, or has a wrong one: 401, with `challenge` as WWW-Authenticate (RFC 6750)."""

    def __init__(self, problem: str, wrong: bool = False) -> None:
        super().__init__(f"{problem}; send a valid key as `Authorization: Bearer dyw_...`")
        self.challenge = 'Bearer realm="dyeworks"' + (', error="invalid_token"' if wrong else "")


class Forbidden(DyeworksError):
    """The API key of a request does not allow it: 403, with `challenge` as WWW-Authenticate (RFC 6750)."""

    def __init__(self, key: str, problem: str, scope: str) -> None:
        super().__init__(f"the API key {key!r} {problem}; ask the operator for one that may")
        self.challenge = f'Bearer realm="dyeworks", error="insufficient_scope", scope="{scope}"'
