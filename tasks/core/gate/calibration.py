"""The gate's measurement noise, from a model compared with itself on other seeds, and the margins derived from it."""

import math
from collections.abc import Iterator

import numpy as np

from tasks.core.config.presets import GateSpec
from tasks.core.errors import CalibrationImpossible
from tasks.core.gate.checks import interval
from tasks.core.gate.evidence import Evidence, faults
from tasks.core.gate.statistics import MEASURES, Measure, Scores, mean, means
from tasks.core.store.documents import Document

ERRORS = 4.0  # a margin is at least this many standard errors, so that two equal models rarely differ by it
LEAST = 0.01  # the smallest margin that is proposed: a difference that nobody sees
LEAST_TIME = 0.05  # the same for render_seconds, as a share


class Noise(Document):
    """The difference of two runs of one model in one measure; for render_seconds as shares of its mean."""

    measure: Measure
    prompts: int
    level: float  # mean of both runs, in seconds for render_seconds
    difference: float  # mean of the paired differences
    deviation: float  # their standard deviation over prompts
    error: float  # standard error of their mean
    low: float
    high: float
    margin: float  # in force
    proposed: float

    @property
    def includes_zero(self) -> bool:
        """Whether the interval includes zero, as it does in 19 of 20 cases for a model and itself."""
        return self.low <= 0 <= self.high

    @property
    def has_enough_traffic(self) -> bool:
        """Whether the margin in force is as wide as this noise needs."""
        return self.margin >= ERRORS * self.error

    @property
    def says(self) -> str:
        """One sentence."""
        unit = " of its mean" if self.measure == "render_seconds" else ""
        margin = "has_enough_traffic" if self.has_enough_traffic else f"is too small, {_up(self.proposed):g} is not"
        differ = "" if self.includes_zero else "; the two runs differ, which happens by chance in one of 20"
        return (
            f"{self.measure} differs by {self.difference:+.4f}{unit} [{self.low:+.4f}, {self.high:+.4f}] over "
            f"{self.prompts} prompts, standard error {self.error:.4f}: the margin of {self.margin:g} {margin}{differ}"
        )


class Calibration(Document):
    """The noise of every measure."""

    noises: tuple[Noise, ...]

    @property
    def has_enough_traffic(self) -> bool:
        """Whether all margins in force suffice."""
        return all(noise.has_enough_traffic for noise in self.noises)

    def as_yaml(self) -> str:
        """The lines for `gate:` of a preset, each margin rounded up."""
        lines = (f"    {n.measure}: {_up(n.proposed):g}   # standard error {n.error:.4f}\n" for n in self.noises)
        return f"  margins:\n{''.join(lines)}"


def propose(first: Scores, second: Scores, spec: GateSpec) -> Calibration:
    """The noise of one model on the same prompts and other seeds; raises CalibrationImpossible.

    It is the noise of the seeds alone. Two models of equal quality also differ by prompt, so these margins are lower
    bounds.
    """
    if found := list(faults(first, second, Evidence())):
        raise CalibrationImpossible(found)
    return Calibration(noises=tuple(_noises(first, second, spec)))


def _noises(first: Scores, second: Scores, spec: GateSpec) -> Iterator[Noise]:
    for measure in MEASURES:
        ours, theirs, prompts = first[measure], second[measure], tuple(second[measure])
        difference = means(ours, prompts) - means(theirs, prompts)
        level = (mean(ours) + mean(theirs)) / 2
        timed = measure == "render_seconds"
        value, low, high = (d / (level if timed else 1) for d in interval(ours, theirs, (prompts,), spec))
        deviation = float(np.std(difference, ddof=1)) / (level if timed else 1)
        error = deviation / math.sqrt(len(prompts))
        yield Noise(
            measure=measure,
            prompts=len(prompts),
            level=level,
            difference=value,
            deviation=deviation,
            error=error,
            low=low,
            high=high,
            margin=getattr(spec.margins, measure),
            proposed=max(ERRORS * error, LEAST_TIME if timed else LEAST),
        )


def _up(margin: float) -> float:
    """Rounded up to a thousandth."""
    return math.ceil(round(margin * 1000, 6)) / 1000
