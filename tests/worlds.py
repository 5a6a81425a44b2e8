"""Synthetic traffic whose truth is known, for the drift detector's tests and benchmark.

Embeddings lie in a cone, as CLIP's of texts do (two random rows have a cosine of about 0.6), in thirty kinds with Zipf
weights, from tight to loose. New traffic is of kinds that were never seen.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

CONE = 0.65  # squared length of the part of a centre that all kinds share
SPREADS = (0.1, 0.6)  # length of the noise around a centre, of the tightest and of the loosest kind
BUTTON = 0.25  # share of the traffic that is one identical prompt, in `with_button`
BUTTONS, EXAMPLE = 10, 0.06  # identical prompts, and the share of each, in `with_examples`
LENGTH = 4.0  # mean prompts of a session
AGAIN, STAY = 0.35, 0.45  # a session's later prompts: share that repeat the one before, that stay in its kind
RHYTHM = 0.7  # how far the log weight of a kind swings over the day
BUSY = 0.6  # how far the number of prompts swings over the day
DAY = 24


class World:
    """Kinds of prompts and visitors who ask for them; all randomness comes from the given generator."""

    def __init__(self, d: int = 512, kinds: int = 30, new: int = 3, *, seed: int) -> None:
        rng = np.random.default_rng([21, seed])
        self.seed, self.kinds, self.new = seed, kinds, new
        axis, own = _directions(1, d, rng), _directions(kinds + new, d, rng)
        self.centres = np.sqrt(CONE) * axis + np.sqrt(1 - CONE) * own
        known, unseen = np.geomspace(*SPREADS, kinds), np.geomspace(*SPREADS, new + 2)[1:-1]
        self.spread = np.concatenate([rng.permutation(known), unseen])
        self.zipf = _shares(1 / np.arange(1, kinds + 1))
        self.buttons = self.embed(np.arange(BUTTONS), rng)
        swing = np.cos(2 * np.pi * (np.arange(DAY)[:, None] / DAY - rng.random(kinds)))
        self.mixes = np.cumsum(_shares(self.zipf * np.exp(RHYTHM * swing)), axis=1)

    def embed(self, kind: Ints, rng: np.random.Generator) -> Floats:
        """A row for each kind, float32 [n, d] of length one."""
        noise = rng.standard_normal((len(kind), self.centres.shape[1]), dtype=np.float32)
        scale = (self.spread[kind] / np.sqrt(noise.shape[1])).astype(np.float32)
        rows = self.centres[kind].astype(np.float32) + noise * scale[:, None]
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)

    def window(self, n: int, rng: np.random.Generator, new: float = 0.0) -> Floats:
        """Independent rows, float32 [n, d], of which exactly round(new * n), in no order, are of unseen kinds."""
        kind = rng.choice(self.kinds, n, p=self.zipf)
        unseen = rng.permutation(n)[: round(new * n)]
        kind[unseen] = rng.integers(self.kinds, self.kinds + self.new, len(unseen))
        return self.embed(kind, rng)

    def with_button(self, n: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
        """Clean rows of which a quarter is one identical prompt, and as groups a visitor for each."""
        rows = self.window(n, rng)
        rows[rng.permutation(n)[: round(BUTTON * n)]] = self.buttons[0]
        return rows, rng.integers(0, 2**62, n)

    def with_examples(self, n: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
        """Clean rows of which three fifths are one of ten identical prompts, and a visitor for each."""
        rows = self.window(n, rng)
        pressed = rng.random(n) < BUTTONS * EXAMPLE
        rows[pressed] = self.buttons[rng.integers(0, BUTTONS, np.count_nonzero(pressed))]
        return rows, rng.integers(0, 2**62, n)

    def day(self, n: int, rng: np.random.Generator, new: float = 0.0) -> tuple[Floats, Ints]:
        """One day's rows, float32 [n, d], with their sessions, int64 [n]."""
        session = _sessions(n, rng)
        hour = rng.choice(DAY, session[-1] + 1, p=_shares(_busy(np.arange(DAY))))[session]
        return self._ask(session, hour, rng, new), rng.integers(0, 2**62, session[-1] + 1)[session]

    def hours(
        self, count: int, rng: np.random.Generator, *, rate: float = 60, new: float = 0.0
    ) -> tuple[Floats, Ints, Ints]:
        """A stream: the rows of `count` hours, their sessions and their hours, ascending; `rate` an hour on average."""
        session = _sessions(int(rng.poisson(rate * count)), rng)
        busy = _shares(_busy(np.arange(count)))
        hour = np.sort(rng.choice(count, session[-1] + 1, p=busy))[session]
        return self._ask(session, hour, rng, new), rng.integers(0, 2**62, session[-1] + 1)[session], hour

    def _ask(self, session: Ints, hour: Ints, rng: np.random.Generator, new: float) -> Floats:
        """What visitors ask for, prompt by prompt; of each day the share `new` is of unseen kinds."""
        first, luck = np.diff(session, prepend=-1) > 0, rng.random(len(session))
        fresh, again = first | (luck >= AGAIN + STAY), ~first & (luck < AGAIN)
        drawn = np.sum(rng.random(len(session))[:, None] > self.mixes[hour % DAY][:, :-1], axis=1)
        visitor_is_new = _planted(session, hour // DAY, new, rng)
        unseen = rng.integers(self.kinds, self.kinds + self.new, len(session))
        kind = np.where(visitor_is_new[session], unseen, drawn)[_latest(fresh)]
        return self.embed(kind, rng)[_latest(~again)]


def _directions(count: int, d: int, rng: np.random.Generator) -> Doubles:
    rows = rng.normal(size=(count, d))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _shares(weights: Doubles) -> Doubles:
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _busy(hour: Ints) -> Doubles:
    return np.asarray(1 + BUSY * np.sin(2 * np.pi * (hour % DAY - 9) / DAY))


def _sessions(n: int, rng: np.random.Generator) -> Ints:
    """The session of each of n prompts, ascending from 0; lengths are geometric."""
    return np.repeat(np.arange(n), rng.geometric(1 / LENGTH, n))[:n]


def _planted(session: Ints, day: Ints, share: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Whether a session is new: of every day as many, drawn at random, as make up the share of its rows."""
    _, first, rows = np.unique(session, return_index=True, return_counts=True)
    new = np.zeros(len(rows), dtype=np.bool_)
    for one in np.unique(day):
        order = rng.permutation(np.flatnonzero(day[first] == one))
        new[order] = np.cumsum(rows[order]) <= share * rows[order].sum()
    return new


def _latest(mark: npt.NDArray[np.bool_]) -> Ints:
    """For each place the last marked one up to it."""
    return np.maximum.accumulate(np.where(mark, np.arange(len(mark)), 0))
