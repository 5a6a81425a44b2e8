"""What the drift detector is measured against: PSI by dimension, and Evidently's methods for embeddings."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from evidently.legacy.metrics.data_drift import embedding_drift_methods as evidently

from tasks.core.drift.psi import psi
from tests.bench_drift import Bench, generator
from tests.bench_table import Row, Table
from tests.worlds import Floats, World

Judge = Callable[[Floats], tuple[float, bool]]  # of a window: the score, and whether drift is detected

BINS, MOST_PSI = 10, 0.2
EVIDENTLY = ("model", "ratio", "mmd", "distance")
AFFORDED = {"model": 240, "ratio": 30, "mmd": 30, "distance": 240}  # windows: about a minute of CPU
FEW = 12  # windows of the other comparisons


def psi_by_dimension(reference: Floats) -> Judge:
    """The usual recipe: PSI of each dimension in the reference's percentile bins, and 0.2 for the largest."""
    edges = np.percentile(reference, np.arange(1, BINS) * 100 / BINS, axis=0)
    offset = np.arange(reference.shape[1]) * BINS

    def judge(window: Floats) -> tuple[float, bool]:
        place = np.sum(window[:, None, :] > edges, axis=1) + offset
        counts = np.bincount(place.ravel(), minlength=BINS * window.shape[1]).reshape(-1, BINS)
        most = float(psi(counts).max())
        return most, most > MOST_PSI

    return judge


def evidently_default(method: str, reference: Floats) -> Judge:
    """One of Evidently's methods (`EVIDENTLY`) with its default settings."""
    ask = getattr(evidently, method)()

    def judge(window: Floats) -> tuple[float, bool]:
        score, drifted, _ = ask(pd.DataFrame(window), pd.DataFrame(reference))
        return float(score), bool(drifted)

    return judge


def rivals(bench: Bench, afforded: dict[str, int] | None = None, seed: int = 1) -> Table:
    """All methods on the same windows: of 300 (the first that `false_alarms` draws), of 100, and with the button."""
    most = AFFORDED if afforded is None else afforded
    few = {name: min(count, FEW) for name, count in most.items()}
    world = World(seed=seed)
    return [
        *_compared(bench, "independent, n=300", world.window, 300, most, seed),
        *_compared(bench, "independent, n=100", world.window, 100, few, seed),
        *_compared(bench, "one prompt a quarter, n=300", lambda n, rng: world.with_button(n, rng)[0], 300, few, seed),
    ]


def _compared(
    bench: Bench, traffic: str, draw: Callable[..., Floats], n: int, afforded: dict[str, int], seed: int
) -> Iterator[Row]:
    rng, most = generator(1, seed), max(afforded.values())
    reference, clean = draw(4000, rng), [draw(n, rng) for _ in range(most)]
    moved = [_moved(window, World(seed=seed), rng) for window in clean[: most // 4]]
    judges = [("dyeworks", _own(bench, reference)), ("PSI by dimension", psi_by_dimension(reference))]
    judges += [(f"Evidently {name}", evidently_default(name, reference)) for name in EVIDENTLY]
    for name, judge in judges:
        count = afforded.get(name.removeprefix("Evidently "), most)
        yield {"traffic": traffic, "method": name, **_rival(judge, clean[:count], moved[: count // 4])}


def _moved(window: Floats, world: World, rng: np.random.Generator) -> Floats:
    """The window with new traffic in the place of a quarter of its rows."""
    moved, place = window.copy(), rng.permutation(len(window))[: len(window) // 4]
    moved[place] = world.window(len(place), rng, 1.0)
    return moved


def _own(bench: Bench, reference: Floats) -> Judge:
    profile = bench.fit(reference, np.arange(len(reference)))

    def judge(window: Floats) -> tuple[float, bool]:
        report = bench.run(profile, (window, np.arange(len(window))))
        return report.psi, report.verdict == "retrain"

    return judge


def _rival(judge: Judge, clean: list[Floats], moved: list[Floats]) -> Row:
    still, shifted = [judge(window) for window in clean], [judge(window) for window in moved]
    return {
        "clean windows": len(still),
        "alarms": float(np.mean([drifted for _, drifted in still])),
        "mean score": float(np.mean([score for score, _ in still])),
        "25 % new": len(shifted),
        "found": float(np.mean([drifted for _, drifted in shifted])),
        "its mean score": float(np.mean([score for score, _ in shifted])),
    }
