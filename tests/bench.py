"""Measures dyeworks against itself and others: `make bench` writes build/bench/bench.json.

Every row compares a value with a baseline taken in the same run, or with a target: name, unit, value, baseline,
baseline_value, ratio, runs. Medians. `python -m tests.bench drift` runs one part (training, rendering, drift, gate,
page, serving, ingest, monitor, gateway) and writes its rows alone; the drift detector's tables are in
build/bench/drift.json.
"""

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tasks.core.config.presets import load_preset
from tasks.core.models.rendering import Renderer
from tests.bench_drift import Bench
from tests.bench_drift_all import drift_tables, headlines
from tests.bench_gate import gate
from tests.bench_gateway import notifications
from tests.bench_ingest import ingests
from tests.bench_monitor import monitor
from tests.bench_page import page
from tests.bench_serving import serving
from tests.bench_table import Row, Table, row, show
from tests.bench_training import training

OUT = Path("build/bench")


def main() -> None:
    """Run the named parts, or all, and write the results."""
    parts: dict[str, Callable[[], list[Row]]] = {
        "training": training,
        "rendering": rendering,
        "drift": drift,
        "gate": gate,
        "page": page,
        "serving": serving,
        "ingest": ingests,
        "monitor": monitor,
        "gateway": notifications,
    }
    rows = [row for name in sys.argv[1:] or parts for row in parts[name]()]
    write("bench.json", rows)
    print()
    for found in rows:
        print("{name}: {value} {unit} ({ratio} x {baseline}, {runs} runs)".format(**found))


def write(name: str, found: object) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(json.dumps(found, indent=2) + "\n")


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


def rendering(runs: int = 3) -> list[Row]:
    """Sixteen pictures at once, and one by one."""
    renderer, spec = Renderer("embedded"), load_preset("embedded").evaluation
    prompts, seeds = ["large rings in adire_style"] * 16, list(range(16))

    def together() -> object:
        return renderer.render(prompts, seeds, spec.steps, spec.guidance)

    def alone() -> object:
        return [renderer.render(prompts[:1], [s], spec.steps, spec.guidance) for s in seeds]

    batch, single = timed(runs, together, alone)
    return [row("rendering, batches of 16", "s/picture", batch / 16, "one by one", single / 16, runs)]


def drift() -> list[Row]:
    """The drift detector: false alarms, power, rivals, dependence, delay, cost, real sentences."""
    logging.getLogger("tasks.core.drift").setLevel(logging.ERROR)  # its warning about small references is expected
    tables: dict[str, Table] = {}
    with TemporaryDirectory() as folder:
        for name, table in drift_tables(Bench(Path(folder))):
            show(name, table)
            tables[name] = table
    write("drift.json", tables)
    return headlines(tables)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
