"""Worlds whose truth is known: thirty kinds of prompts, Zipf-distributed, and six new kinds."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tasks.core.drift import DriftReport, DriftSpec

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Checker = Callable[..., DriftReport]

ENCODER = "sha256:encoder"
SPEC = DriftSpec(draws=20_000)  # the fewest, in round numbers, with which a retrain can be reached
KINDS, NEW = 30, 6
WORDS = ["apple", "river", "stone", "cloud", "tiger", "paper"]


@dataclass
class World:
    d: int = 64
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def __post_init__(self) -> None:
        self.centres = np.random.default_rng(1).normal(size=(KINDS + NEW, self.d)) / np.sqrt(self.d)
        self.zipf = 1 / np.arange(1, KINDS + 1) / np.sum(1 / np.arange(1, KINDS + 1))

    def seeded(self, seed: int) -> "World":
        return World(self.d, np.random.default_rng(seed))

    def embed(self, kind: Ints) -> Floats:
        rows = self.centres[kind] + self.rng.normal(size=(len(kind), self.d)) * 0.8 / np.sqrt(self.d)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)

    def window(self, n: int, new: float = 0.0) -> Floats:
        kind = self.rng.choice(KINDS, n, p=self.zipf)
        kind[: round(new * n)] = self.rng.integers(KINDS, KINDS + NEW, round(new * n))
        return self.embed(kind)

    def sessions(self, n: int, size: int) -> tuple[Floats, Ints]:
        """Sessions in which every prompt is of one kind."""
        kind = np.repeat(self.rng.choice(KINDS, n // size, p=self.zipf), size)
        return self.embed(kind), np.repeat(self.rng.integers(0, 2**62, n // size), size)

    def with_button(self, n: int) -> tuple[Floats, Ints]:
        """Clean traffic of which a fifth is one prompt, in sessions of three."""
        rows = self.window(n)
        rows[self.rng.permutation(n)[: n // 5]] = World(self.d).window(1)
        return rows, np.arange(n) // 3


def verdicts(reports: list[DriftReport]) -> Counter[str]:
    return Counter(report.verdict for report in reports)


def texts_of(kind: Ints) -> list[str]:
    return [f"a picture of {WORDS[k % 6]} and kind{k}" for k in kind]
