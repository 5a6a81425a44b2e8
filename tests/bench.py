"""Measures dyeworks against itself: `make bench` writes build/bench/bench.json.

Every row compares a value with a baseline taken in the same run: name, unit, value, baseline,
baseline_value, ratio, runs. Medians.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from infra.base.visitors import FIRST_TASTE, NEW_MOTIFS, requests
from infra.base.world import adire_caption, draw_adire
from tasks.core.clip import Clip
from tasks.core.drift import DriftSpec, check, fit_profile, null_statistics
from tasks.core.pipeline import load_pipeline
from tasks.core.rendering import Renderer
from tasks.core.settings import Settings
from tasks.core.specs import TrainSpec, load_preset
from tasks.core.training.trainer import Lesson, Trainer

OUT = Path("build/bench/bench.json")
Row = dict[str, str | float | int]


def main() -> None:
    """Run all benchmarks and write the file."""
    rows = [*training(), *rendering(), *drift()]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=2) + "\n")
    for row in rows:
        print(f"{row['name']}: {row['value']} {row['unit']} ({row['ratio']} x {row['baseline']}, {row['runs']} runs)")


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


def row(name: str, unit: str, value: float, baseline: str, against: float, runs: int) -> Row:
    """One line of the file."""
    return {
        "name": name,
        "unit": unit,
        "value": round(value, 4),
        "baseline": baseline,
        "baseline_value": round(against, 4),
        "ratio": round(value / against, 3),
        "runs": runs,
    }


def training(runs: int = 5) -> list[Row]:
    """An effective batch of 8 as one forward, and as the accumulation of 8."""
    settings, spec = Settings(), load_preset("embedded").train
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(draw_adire("rings", "large", rng)) for _ in range(16)]
    captions = [adire_caption("rings", "large", rng) for _ in pictures]
    lesson = Lesson(pictures, captions, np.full(16, 1 / 16))

    def stepper(spec: TrainSpec) -> Callable[[], object]:
        trainer = Trainer(load_pipeline(settings), lesson, spec, settings)
        return lambda: trainer._step(1)

    one = stepper(spec.model_copy(update={"batch": 8, "accumulation": 1}))
    many = stepper(spec.model_copy(update={"batch": 1, "accumulation": 8}))
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


def drift(runs: int = 5) -> list[Row]:
    """A check with its null table on disk, and without; and what it finds."""
    clip = Clip(Settings())

    def embed(count: int, taste: dict[str, float], seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return clip.encode_texts([r.prompt for r in requests(count, taste, seed)])

    profile = fit_profile(embed(4000, FIRST_TASTE, 1), encoder=clip.hash, groups=np.arange(4000), spec=DriftSpec())
    windows = [embed(400, FIRST_TASTE, 100 + i) for i in range(20)]
    groups = np.arange(400)
    with TemporaryDirectory() as folder:
        cache = Path(folder)

        def cached() -> object:
            return check(profile, windows[0], encoder=clip.hash, groups=groups, null_cache=cache)

        def fresh() -> object:
            return null_statistics(400, profile.card.rows_b)

        warm, cold = timed(runs, cached, fresh)
        reports = [check(profile, w, encoder=clip.hash, groups=groups, null_cache=cache) for w in windows]
        shifted = check(profile, embed(400, NEW_MOTIFS, 7), encoder=clip.hash, groups=groups, null_cache=cache)
    alarms = sum(r.verdict == "retrain" for r in reports)
    clean = max(r.psi for r in reports)
    return [
        row("drift check of 400 requests", "s", warm, "drawing its null table", cold, runs),
        row("drift false alarms, 400 clean requests", "share", alarms / len(windows), "one window", 1.0, len(windows)),
        row("PSI of wholly new motifs", "PSI", shifted.psi, "the worst of 20 clean windows", max(clean, 1e-3), 1),
    ]


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
