"""How often the drift detector is wrong and how much drift it needs: synthetic worlds, fixed seeds, none tuned."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.core.config.drift import DEFAULT_SPEC
from tasks.core.drift import DriftProfile, DriftReport, DriftSpec, check, fit_profile
from tasks.core.drift.psi import share_to_psi
from tests.bench_table import Row, Table
from tests.worlds import Floats, Ints, World

ENCODER = "bench"
SEEDS = (1, 2, 3)
SHARES = (0.1, 0.2, 0.25, 0.4)
WORLDS = ((1, 3), (2, 1), (3, 6))  # seed, unseen kinds

Window = tuple[Floats, Ints | None]
Draw = Callable[[], Window]
Draws = Callable[[int, np.random.Generator], tuple[Floats, Ints]]


@dataclass(frozen=True)
class Bench:
    """What all measurements share: the specification and the folder of null tables."""

    cache: Path
    spec: DriftSpec = DEFAULT_SPEC

    def fit(self, rows: Floats, groups: Ints | None = None, blocks: Ints | None = None) -> DriftProfile:
        return fit_profile(rows, encoder=ENCODER, groups=groups, blocks=blocks, spec=self.spec)

    def run(self, profile: DriftProfile, window: Window) -> DriftReport:
        return check(profile, window[0], encoder=ENCODER, groups=window[1], null_cache=self.cache)

    def many(self, profile: DriftProfile, count: int, draw: Draw) -> list[DriftReport]:
        return [self.run(profile, draw()) for _ in range(count)]


def generator(*key: int) -> np.random.Generator:
    return np.random.default_rng([31, *key])


def alarms(reports: list[DriftReport]) -> Row:
    """The shares of reports that would raise an alarm, and their PSI."""
    p, verdicts = np.array([r.p_value for r in reports]), [r.verdict for r in reports]
    return {
        "windows": len(reports),
        "retrain": verdicts.count("retrain") / len(reports),
        "warn": verdicts.count("warn") / len(reports),
        "p<0.05": float(np.mean(p < 0.05)),
        "p<0.001": float(np.mean(p < 0.001)),
        "mean PSI": float(np.mean([r.psi for r in reports])),
        "largest": max(r.psi for r in reports),
    }


def false_alarms(bench: Bench, windows: int = 240, seeds: tuple[int, ...] = SEEDS, n: int = 300) -> Table:
    """Clean windows of three sorts of traffic, with a visitor for each row and without: the share of alarms."""
    table: Table = []
    for seed in seeds:
        world = World(seed=seed)
        table.append({"traffic": "independent", "groups": "none", "world": seed, **_plain(bench, world, windows, n)})
        for traffic, draw, m in (
            ("one prompt a quarter", world.with_button, 4000),
            ("ten prompts 6 % each", world.with_examples, 8000),
        ):
            table.extend({"traffic": traffic, **line} for line in _repeated(bench, draw, seed, windows, n, m))
    return table


def many_references(bench: Bench, references: int = 60, each: int = 4, seed: int = 1, n: int = 300) -> Row:
    """Clean windows against many references: their p-values, unlike those against one, are independent."""
    world, rng = World(seed=seed), generator(9, seed)
    found: list[DriftReport] = []
    for _ in range(references):
        profile = bench.fit(world.window(4000, rng))
        found += bench.many(profile, each, lambda: (world.window(n, rng), None))
    return {"traffic": f"independent, {references} references", "groups": "none", "world": seed, **alarms(found)}


def _plain(bench: Bench, world: World, windows: int, n: int) -> Row:
    rng = generator(1, world.seed)
    profile = bench.fit(world.window(4000, rng))
    return alarms(bench.many(profile, windows, lambda: (world.window(n, rng), None)))


def _repeated(bench: Bench, draw: Draws, seed: int, windows: int, n: int, m: int) -> Iterator[Row]:
    rng = generator(7, seed)
    rows, groups = draw(m, rng)
    clean = [draw(n, rng) for _ in range(windows)]
    grouped, ungrouped = bench.fit(rows, groups), bench.fit(rows)
    yield {"groups": "a visitor a row", "world": seed, **alarms([bench.run(grouped, window) for window in clean])}
    yield {"groups": "none", "world": seed, **alarms([bench.run(ungrouped, (window, None)) for window, _ in clean])}


def power(
    bench: Bench,
    windows: int = 200,
    worlds: Iterable[tuple[int, int]] = WORLDS,
    shares: tuple[float, ...] = SHARES,
    n: int = 500,
) -> Table:
    """Planted shares of new traffic: the PSI beside the closed form, and the verdicts."""
    table: Table = []
    for seed, new in worlds:
        world, rng = World(new=new, seed=seed), generator(2, seed)
        profile = bench.fit(world.window(4000, rng))
        for share in shares:
            found = bench.many(profile, windows, lambda w=world, r=rng, s=share: (w.window(n, r, s), None))  # type: ignore[misc]
            table.append({"world": seed, "new kinds": new, **power_row(share, found)})
    return table


def power_row(share: float, reports: list[DriftReport]) -> Row:
    verdicts = [r.verdict for r in reports]
    closed, mean = share_to_psi(share), float(np.mean([r.psi for r in reports]))
    retrain = verdicts.count("retrain") / len(reports)
    return {
        "new traffic": share,
        "windows": len(reports),
        "mean PSI": mean,
        "closed form": closed,
        "mean/closed": mean / closed,
        "sd": float(np.std([r.psi for r in reports])),
        "retrain": retrain,
        "warn or retrain": retrain + verdicts.count("warn") / len(reports),
    }
