"""Measures dyeworks against itself and others: `make bench` writes build/bench/bench.json.

Every row compares a value with a baseline taken in the same run, or with a target: name, unit, value, baseline,
baseline_value, ratio, runs. Medians. `python -m tests.bench drift` runs one part (training, rendering, drift) and
writes its rows alone; the drift detector's whole tables are in build/bench/drift.json.
"""

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from infra.base.world import adire_caption, draw_adire
from tasks.core.pipeline import load_pipeline
from tasks.core.rendering import Renderer
from tasks.core.settings import Settings
from tasks.core.specs import load_preset
from tasks.core.training.material import Lesson, drawn
from tasks.core.training.spec import ComputeSpec, TrainSpec
from tasks.core.training.trainer import Trainer
from tests.bench_drift import Bench
from tests.bench_drift_all import drift_tables, headlines
from tests.bench_table import Row, Table, row, show

OUT = Path("build/bench")


def main() -> None:
    """Run the parts that are named, or all, and write what they found."""
    parts: dict[str, Callable[[], list[Row]]] = {"training": training, "rendering": rendering, "drift": drift}
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


def training(runs: int = 5) -> list[Row]:
    """An effective batch of 8 as one forward, and as the accumulation of 8."""
    settings, spec = Settings(), load_preset("embedded").train
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(draw_adire("rings", "large", rng)) for _ in range(16)]
    lesson = Lesson([drawn(p, adire_caption("rings", "large", rng)) for p in pictures], np.full(16, 1 / 16))

    def stepper(spec: TrainSpec) -> Callable[[], object]:
        trainer = Trainer(load_pipeline(settings), lesson, spec, settings)
        return lambda: trainer.learner.step(1, trainer.draws.samples(1))

    one = stepper(spec)
    many = stepper(spec.model_copy(update={"compute": ComputeSpec(micro_batch=1)}))
    fast, slow = timed(runs, one, many)
    return [row("training speed, batch 8 in one forward", "steps/s", 1 / fast, "8 forwards of 1", 1 / slow, runs)]


def rendering(runs: int = 3) -> list[Row]:
    """Sixteen pictures at once, and one by one."""
    renderer, spec = Renderer(Settings()), load_preset("embedded").evaluation
    prompts, seeds = ["large rings in adire_style"] * 16, list(range(16))

    def together() -> object:
        return renderer.render(prompts, seeds, spec.steps, spec.guidance)

    def alone() -> object:
        return [renderer.render(prompts[:1], [s], spec.steps, spec.guidance) for s in seeds]

    batch, single = timed(runs, together, alone)
    return [row("rendering, batches of 16", "s/picture", batch / 16, "one by one", single / 16, runs)]


def drift() -> list[Row]:
    """The drift detector: false alarms, power, rivals, dependence, delay, cost, real sentences."""
    logging.getLogger("tasks.core.drift").setLevel(logging.ERROR)  # what it says of small references is known
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
