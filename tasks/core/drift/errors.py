"""Errors of embeddings, profiles and states of the drift detector."""

from tasks.core.errors import DyeworksError


class BadEmbeddings(DyeworksError):
    """Embeddings, or their groups or blocks, cannot be used."""

    def __init__(self, name: str, problem: str, rows: int | None = None) -> None:
        super().__init__(f"{name}: {problem}" + ("" if rows is None else f" ({rows} bad rows)"))
        self.name = name
        self.rows = rows


class EncoderMismatch(DyeworksError):
    """Embeddings of one encoder were compared with those of another."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"the profile was fitted with encoder {expected}, the window with {found}: fit a new profile")
        self.expected = expected
        self.found = found


class ReferenceTooSmall(DyeworksError):
    """There is too little reference traffic to fit a drift profile."""

    def __init__(self, rows: int, needed: int, what: str = "reference rows after the cap on rows a group") -> None:
        super().__init__(f"{rows} {what}, {needed} are needed: wait for traffic, or import a history")
        self.rows = rows
        self.needed = needed


class ProfileUnusable(DyeworksError):
    """A drift profile cannot be read."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"drift profile {path} cannot be used: {problem}; fit it again")
        self.path, self.problem = path, problem


class StateUnusable(DyeworksError):
    """A window state cannot be read, or belongs to another profile."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"drift state cannot be used: {problem}; delete it, and the next check computes it again")


class NullMismatch(DyeworksError):
    """A null table for other sizes was given to a drift check."""

    def __init__(self, wanted: tuple[int, int, int], given: tuple[int, int, int]) -> None:
        super().__init__(f"the check needs the null table of (n_eff, reference_eff, bins) {wanted}, not {given}")
        self.wanted = wanted
        self.given = given
