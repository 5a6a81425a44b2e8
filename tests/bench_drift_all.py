"""All measurements of the drift detector in turn, and the headline numbers."""

import warnings
from collections.abc import Iterator

from tests.bench_drift import Bench, false_alarms, many_references, power
from tests.bench_drift_cost import costs
from tests.bench_drift_streams import delays, dependence, month, year
from tests.bench_rivals import rivals
from tests.bench_sentences import sentences
from tests.bench_table import Row, Table, row

FALSE_ALARMS = "False alarms: windows of 300 without drift, reference of 4000 (target: p<0.05 in 2 to 9 %, no retrain)"
RIVALS = "The same windows, other methods with their defaults"
POWER = "Planted new traffic: windows of 500 (a PSI of 0.2 is 18.6 % new traffic)"
DEPENDENCE = "Days of sessions that repeat prompts, daily rhythm, no drift (target: at most 1 retrain of 60)"
ALWAYS = "A year of daily checks, a month of hourly ones, no drift (target: no retrain)"
DELAYS = "Hours of new traffic until a retrain is asked for, hourly checks of the trailing day (target: at most 24)"
COSTS = "What a check costs (targets: 300 rows 0.02 s; 100 000 rows 1 s and 1 GiB)"
QUIET = "Real sentences without drift, windows of 300"
MOVED = "Real sentences, planted new traffic, windows of 500"


def drift_tables(bench: Bench) -> Iterator[tuple[str, Table]]:
    """Each table with its title, as soon as it is ready."""
    warnings.simplefilter("ignore")  # of the rivals, about their inputs
    yield COSTS, costs()
    yield FALSE_ALARMS, [*false_alarms(bench), many_references(bench)]
    yield RIVALS, rivals(bench)
    yield POWER, power(bench)
    yield DEPENDENCE, dependence(bench)
    yield ALWAYS, [year(bench), month(bench)]
    yield DELAYS, delays(bench)
    quiet, moved = sentences(bench)
    yield QUIET, quiet
    yield MOVED, moved


def headlines(tables: dict[str, Table]) -> list[Row]:
    """Rows for bench.json, each against its target or against the best-known other method."""
    clean, other, found = tables[FALSE_ALARMS][0], _line(tables[RIVALS], "Evidently model"), tables[POWER][2]
    small, large, stream = tables[COSTS]
    waits = [float(line["hours"]) for line in tables[DELAYS] if line["new traffic"] == 0.25]
    mapped = float(stream["window GiB"])
    hourly = tables[ALWAYS][1]
    return [
        _row("drift check of 300 rows", "CPU s", small, "CPU s", "target", 0.02),
        _row("drift check of 100 000 rows", "CPU s", large, "CPU s", "target", 1.0),
        _row("its extra memory", "GiB", large, "extra GiB", "target", 1.0),
        _row("a million mapped rows, extra memory", "GiB", stream, "extra GiB", "the window", mapped),
        _row("clean windows with p<0.05", "share", clean, "p<0.05", "nominal", 0.05),
        _row("retrain alarms in a month of hourly checks", "share", hourly, "retrain", "all of them", 1.0),
        _row("PSI of 25 % new traffic", "PSI", found, "mean PSI", "closed form", float(found["closed form"])),
        _row("retrain at 25 % new traffic", "share", found, "retrain", "Evidently model", float(other["found"])),
        row("hours until 25 % new traffic is found", "h", max(waits), "target", 24, len(waits)),
    ]


def _line(table: Table, method: str) -> Row:
    return next(line for line in table if line["method"] == method)


def _row(name: str, unit: str, line: Row, column: str, baseline: str, against: float) -> Row:
    return row(name, unit, float(line[column]), baseline, against, int(line.get("windows", 1)))
