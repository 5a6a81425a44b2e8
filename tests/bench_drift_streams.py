"""The drift detector on traffic that depends on itself: sessions, a daily rhythm, windows that overlap."""

from collections.abc import Iterator

import numpy as np

from tasks.core.drift import DriftProfile, DriftReport
from tests.bench_drift import Bench, alarms, generator
from tests.bench_table import Row, Table
from tests.worlds import DAY, Floats, Ints, World

RATE = 60  # prompts an hour
REFERENCE_DAYS = 10


def days(world: World, rng: np.random.Generator, count: int = REFERENCE_DAYS) -> tuple[Floats, Ints, Ints]:
    """A reference of several days: rows, sessions, and the day of each."""
    rows, sessions, hour = world.hours(DAY * count, rng, rate=RATE)
    return rows, sessions, hour // DAY


def dependence(bench: Bench, windows: int = 60, seeds: tuple[int, ...] = (1, 2)) -> Table:
    """Days of sessions that repeat prompts, with a daily rhythm and no drift, against ten such days."""
    return [line for seed in seeds for line in _dependence(bench, windows, seed)]


def _dependence(bench: Bench, windows: int, seed: int) -> Table:
    world, rng = World(seed=seed), generator(3, seed)
    rows, sessions, day = days(world, rng)
    clean = [world.day(RATE * DAY, rng) for _ in range(windows)]
    table: Table = []
    for knowledge, profile in (("sessions", bench.fit(rows, sessions)), ("and days", bench.fit(rows, sessions, day))):
        found = [bench.run(profile, window) for window in clean]
        head: Row = {"world": seed, "told": knowledge, "phi": profile.card.phi, "n_eff": found[0].n_effective}
        table.append({**head, **alarms(found)})
    return table


def year(bench: Bench, checks: int = 365, seed: int = 1) -> Row:
    """Daily checks of a day each, no drift."""
    world, rng = World(seed=seed), generator(4, seed)
    profile = bench.fit(*days(world, rng))
    found = bench.many(profile, checks, lambda: world.day(RATE * DAY, rng))
    return {"checks": "daily", "world": seed, "phi": profile.card.phi, **alarms(found)}


def month(bench: Bench, checks: int = 720, seed: int = 1) -> Row:
    """Hourly checks of the trailing day, no drift."""
    world, rng = World(seed=seed), generator(5, seed)
    profile = bench.fit(*days(world, rng))
    found = list(trailing(bench, profile, world.hours(checks + DAY - 1, rng, rate=RATE)))
    return {"checks": "hourly", "world": seed, "phi": profile.card.phi, **alarms(found)}


def trailing(bench: Bench, profile: DriftProfile, stream: tuple[Floats, Ints, Ints]) -> Iterator[DriftReport]:
    """A check at the end of every hour, from the first full day on."""
    rows, sessions, hour = stream
    for end in range(DAY, int(hour[-1]) + 2):
        first, last = np.searchsorted(hour, [end - DAY, end])
        yield bench.run(profile, (rows[first:last], sessions[first:last]))


def delays(bench: Bench, seeds: tuple[int, ...] = (1, 2, 3, 4, 5, 6), shares: tuple[float, ...] = (0.25, 0.4)) -> Table:
    """Hours of new traffic until the first retrain verdict of hourly checks."""
    table: Table = []
    for seed in seeds:
        world, rng = World(seed=seed), generator(6, seed)
        profile = bench.fit(*days(world, rng))
        for share in shares:
            clean, moved = world.hours(DAY, rng, rate=RATE), world.hours(2 * DAY, rng, rate=RATE, new=share)
            rows, sessions = (np.concatenate([clean[i], moved[i]]) for i in range(2))
            stream = rows, sessions, np.concatenate([clean[2], moved[2] + DAY])
            reports = trailing(bench, profile, stream)
            hours = next((i for i, report in enumerate(reports) if report.verdict == "retrain"), 999)
            table.append({"world": seed, "new traffic": share, "phi": profile.card.phi, "hours": hours})
    return table
