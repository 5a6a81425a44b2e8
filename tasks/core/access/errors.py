"""Errors of API keys and limits."""

from tasks.core.errors import DyeworksError


class KeyNameUnusable(DyeworksError):
    """No API key can be created under this name."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"no key can be named {name!r}: {problem}")
        self.name = name


class KeyUnknown(DyeworksError):
    """No API key has this name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no key is named {name!r}; there are {', '.join(known) or 'none yet'}")
        self.name, self.known = name, known


class KeyRejected(DyeworksError):
    """An API key is malformed, unknown, revoked or expired: one message for all."""

    def __init__(self) -> None:
        super().__init__("the API key is not valid; check it, or ask the operator for another")


class KeysUnread(DyeworksError):
    """The API keys could not be read from the store yet."""

    def __init__(self) -> None:
        super().__init__("the API keys cannot be checked yet: the store was not read; retry in a moment")


class LimitExceeded(DyeworksError):
    """A key, an address or a session has asked for too many pictures; `retry_after` is in whole seconds."""

    def __init__(self, kind: str, rate: str, asked: int, retry_after: int) -> None:
        super().__init__(
            f"this {kind} may have {rate}, and {asked} more would be too many; retry in {retry_after} seconds, or for "
            "fewer at once"
        )
        self.kind, self.rate, self.asked, self.retry_after = kind, rate, asked, retry_after
