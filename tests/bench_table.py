"""What a benchmark reports: works that are timed in turn, rows that compare with a baseline, tables to read."""

import statistics
import time
from collections.abc import Callable

Row = dict[str, str | float | int]
Table = list[Row]


def row(name: str, unit: str, value: float, baseline: str, against: float, runs: int) -> Row:
    """One line of bench.json."""
    return {
        "name": name,
        "unit": unit,
        "value": round(value, 4),
        "baseline": baseline,
        "baseline_value": round(against, 4),
        "ratio": round(value / against, 3),
        "runs": runs,
    }


def timed(runs: int, *works: Callable[[], object]) -> list[float]:
    """The median seconds of each work, run in turn after one warm-up."""
    seconds: list[list[float]] = [[] for _ in works]
    for run in range(runs + 1):
        for work, taken in zip(works, seconds, strict=True):
            start = time.perf_counter()
            work()
            if run:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


def show(title: str, table: Table) -> None:
    """Print a table, its columns those of its first row, in step."""
    lines = [list(table[0]), *([_text(value) for value in line.values()] for line in table)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table[0]))]
    print(f"\n{title}")
    for line in lines:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _text(value: str | float | int) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
