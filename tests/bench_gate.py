"""Error rates and power of the gate: simulated models whose true difference is known, fixed seeds."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tasks.core.gate.statistics import Measure, Values, paired_interval, widening
from tests.bench_table import Row, Table, row, show
from tests.gates import World, calibrated, shares

GATES = 5000
SIZES = (12, 60)
GAINS = (0.0, 0.01, 0.02, 0.05)
PROMOTED = "How often the challenger is promoted (noise 0.03, margins of 4 standard errors; target: 0 at most 6.5 %)"
WORSE = "A challenger with a gain of 0.05 that is worse by one guard's margin, or by two"
INTERVALS = "Intervals of 95 % that miss the truth (target: 0.05)"
MARGINS = "Guards of equal models that pass at the margins that one A/A run has proposed (target: 97 % in the end)"


def gate() -> list[Row]:
    """The gate, its intervals and its calibration."""
    tables = dict(gate_tables())
    equal, gained = (line(tables[PROMOTED], prompts=60, gain=gain) for gain in (0.0, 0.02))
    twelve = line(tables[INTERVALS], prompts=12, differences="normal")
    return [
        _row("equal models that the gate promotes", equal, "promoted", "mean is higher"),
        _row("gains of 0.02 that the gate promotes", gained, "promoted", "mean is higher"),
        _row("losses of two margins that the gate promotes", tables[WORSE][-1], "promoted", "mean is higher"),
        _row("95 % intervals of 12 prompts that miss", twelve, "widened", "percentile"),
    ]


def gate_tables() -> Iterator[tuple[str, Table]]:
    """Each table with its title, printed as soon as it is ready."""
    for title, make in ((INTERVALS, intervals), (MARGINS, margins), (PROMOTED, promoted), (WORSE, worse)):
        table = make()
        show(title, table)
        yield title, table


def promoted(gates: int = GATES) -> Table:
    """Over sizes and gains; half of the noise stays over seeds, or none does."""
    worlds = [World(prompts=n, gain=g, lasting=h) for n in SIZES for h in (0.5, 0.0) for g in GAINS]
    return [{"gain": w.gain, **_line(w, gates)} for w in worlds]


def worse(gates: int = 1000) -> Table:
    """Each size, one guard."""
    guard: Measure = "diversity"
    worlds = [World(prompts=n, gain=0.05, worse={guard: by}) for n in SIZES for by in (1.0, 1.5, 2.0)]
    return [{"margins": w.worse[guard], **_line(w, gates)} for w in worlds]


def margins(calibrations: int = 200, gates: int = 10) -> Table:
    """The gates of one calibration are not independent, so there are many calibrations."""
    found = {n: calibrated(World(prompts=n, lasting=0.0, gain=0.5), calibrations, gates) for n in SIZES}
    return [
        {"prompts": n, "guards": p.guards, "pass at once": p.at_once, "pass in the end": p.in_the_end}
        for n, p in found.items()
    ]


def intervals(runs: int = 4000) -> Table:
    """Of normal, heavy-tailed (t, 3 degrees of freedom) and skewed (exponential) differences."""
    return [{"prompts": n, "differences": shape, **_missed(n, shape, runs)} for n in (4, *SIZES) for shape in SHAPES]


def line(table: Table, **wanted: str | float) -> Row:
    """The first row with these values."""
    return next(row for row in table if wanted.items() <= row.items())


def _line(world: World, gates: int) -> Row:
    found = shares(world, gates)
    return {
        "prompts": world.prompts,
        "noise that stays": world.lasting,
        "gates": gates,
        "promoted": found.promoted,
        "mean is higher": found.naive,
        "took further looks": found.looked,
    }


SHAPES = ("normal", "heavy tails", "skewed")


def _drawn(shape: str, rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """Differences with a mean of zero."""
    if shape == "skewed":
        return rng.exponential(size=n) - 1
    return rng.standard_t(3, n) if shape == "heavy tails" else rng.normal(size=n)


def _missed(n: int, shape: str, runs: int) -> Row:
    """The share of intervals without the truth: as the gate has them, and as the percentiles alone would be."""
    rng, missed, short = np.random.default_rng([8, n]), 0, 0
    prompts = tuple(f"prompt {i:02}" for i in range(n))
    none: Values = dict.fromkeys(prompts, (0.0,))
    for _ in range(runs):
        drawn: Values = {p: (float(v),) for p, v in zip(prompts, _drawn(shape, rng, n), strict=True)}
        value, low, high = paired_interval(drawn, none, (prompts,), resamples=2000, confidence=0.95, seed=0)
        missed += not low <= 0 <= high
        low, high = (value + (end - value) / widening(n, 0.95) for end in (low, high))
        short += not low <= 0 <= high
    return {"intervals": runs, "widened": missed / runs, "percentile": short / runs}


def _row(name: str, found: Row, column: str, baseline: str) -> Row:
    runs = int(found.get("gates", found.get("intervals", 1)))
    return row(name, "share", float(found[column]), baseline, float(found[baseline]), runs)
