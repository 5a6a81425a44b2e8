"""Simulated gates: two models whose true difference is known, from the first look to the last; none of it tuned."""

from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt

import numpy as np
import numpy.typing as npt

from tasks.core.config.presets import GateSpec, Margins
from tasks.core.gate.calibration import propose
from tasks.core.gate.decide import GateDecision, decide, settle, unsure
from tasks.core.gate.evidence import ExtraSeeds
from tasks.core.gate.statistics import MEASURES, Measure, Scores, Values, mean

Floats = npt.NDArray[np.float64]
LEVELS: dict[Measure, float] = {
    "prompt_fidelity": 0.9,
    "style_fidelity": 0.6,
    "diversity": 0.3,
    "forgetting": 0.02,
    "near_copies": 0.7,
    "render_seconds": 1.0,
}
HARD = 0.1  # standard deviation of what the prompts differ by, which both models share


@dataclass(frozen=True)
class World:
    """Two models over some prompts; every measure has the same noise."""

    prompts: int = 60
    seeds: int = 4
    noise: float = 0.03  # standard deviation of the paired difference of a prompt, its seeds averaged
    lasting: float = 0.5  # share of that variance which is of the models, which seeds do not reduce
    gain: float = 0.0  # true difference of the primary measure
    worse: dict[Measure, float] = field(default_factory=dict)  # true difference of guards, in their margins
    errors: float = 4.0  # margins, in standard errors of the noise

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(f"prompt {i}" for i in range(self.prompts))

    @property
    def margin(self) -> float:
        """Of every guard: so many standard errors of the mean difference."""
        return self.errors * self.noise / sqrt(self.prompts)

    def spec(self, resamples: int) -> GateSpec:
        return GateSpec(margins=Margins(**dict.fromkeys(MEASURES, self.margin)), resamples=resamples)

    def shift(self, measure: Measure) -> float:
        """The true difference; a guard's is in the direction in which it is worse."""
        worse = self.worse.get(measure, 0.0) * self.margin
        better = measure in ("prompt_fidelity", "style_fidelity", "diversity")
        return self.gain if measure == "prompt_fidelity" else -worse if better else worse


class Pair:
    """One challenger and one champion: their difference is fixed, the noise of their seeds is redrawn."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        shape = (len(MEASURES), world.prompts)
        levels = np.array([LEVELS[m] for m in MEASURES])
        self.champion = levels[:, None] + rng.normal(0, HARD, shape)
        shifts = np.array([world.shift(m) for m in MEASURES])
        self.challenger = self.champion + shifts[:, None] + rng.normal(0, world.noise * sqrt(world.lasting), shape)

    def scores(self) -> tuple[Scores, Scores]:
        """One look at both models by all measures."""
        first, second = (
            {m: self._seen(true[i]) for i, m in enumerate(MEASURES)} for true in (self.challenger, self.champion)
        )
        return first, second

    def look(self, check: str, measure: Measure) -> ExtraSeeds:
        """Further seeds for one guard."""
        i = MEASURES.index(measure)
        return ExtraSeeds(check=check, challenger=self._seen(self.challenger[i]), champion=self._seen(self.champion[i]))

    def _seen(self, true: Floats) -> Values:
        """By seed: over `seeds` of both models these noises add up to the part of the variance that is theirs."""
        world = self.world
        spread = world.noise * sqrt((1 - world.lasting) * world.seeds / 2)
        rows = (true[:, None] + self.rng.normal(0, spread, (world.prompts, world.seeds))).tolist()
        return dict(zip(world.names, map(tuple, rows), strict=True))


@dataclass(frozen=True)
class Outcome:
    """The outcome of one pair."""

    first: GateDecision  # before any further look
    decision: GateDecision
    naive: bool  # the mean of the primary measure is higher
    looks: int  # further ones, of all guards together


def run(pair: Pair, spec: GateSpec) -> Outcome:
    """The whole procedure with its further looks."""
    challenger, champion = pair.scores()
    decision = first = decide(challenger, champion, spec)
    looks: list[ExtraSeeds] = []
    while open_ones := unsure(decision):
        looks += [pair.look(check.name, check.measure) for check in open_ones if check.measure]
        decision = settle(challenger, champion, spec, looks)
    naive = mean(challenger["prompt_fidelity"]) > mean(champion["prompt_fidelity"])
    return Outcome(first, decision, naive, len(looks))


@dataclass(frozen=True)
class Shares:
    """Of many gates: how many promoted, by the gate and by the naive rule, and how many took further looks."""

    gates: int
    promoted: float
    naive: float
    looked: float


def shares(world: World, gates: int, seed: int = 1, resamples: int = 10_000) -> Shares:
    """Simulate them."""
    promoted = naive = looked = 0
    rng, spec = np.random.default_rng([6, seed]), world.spec(resamples)
    for _ in range(gates):
        outcome = run(Pair(world, rng), spec)
        promoted += outcome.decision.verdict == "promote"
        naive += outcome.naive
        looked += outcome.looks > 0
    return Shares(gates, promoted / gates, naive / gates, looked / gates)


@dataclass(frozen=True)
class Passed:
    """Of the guards of two equal models, at the margins that an A/A run has proposed: the share that pass."""

    guards: int
    at_once: float
    in_the_end: float


def calibrated(world: World, calibrations: int, gates: int, seed: int = 1, resamples: int = 10_000) -> Passed:
    """So many A/A runs, and so many gates by the margins of each."""
    rng, counts = np.random.default_rng([7, seed]), np.zeros(3)
    for _ in range(calibrations):
        proposed = {n.measure: n.proposed for n in propose(*Pair(world, rng).scores(), world.spec(resamples)).noises}
        spec = world.spec(resamples).model_copy(update={"margins": Margins(**proposed)})
        for _ in range(gates):
            outcome = run(Pair(world, rng), spec)
            counts += (_guards(outcome.decision, 0), _guards(outcome.first), _guards(outcome.decision))
    return Passed(int(counts[0]), float(counts[1] / counts[0]), float(counts[2] / counts[0]))


def _guards(decision: GateDecision, least: int = 1) -> int:
    """How many guards have passed; with `least` 0, how many there are."""
    return sum(check.kind == "guard" and check.passed >= least for check in decision.checks)
