"""What is around the steps of a training: `python -m tests.bench_start FOLDER` does one, and tells in JSON

the seconds from after the imports to the first step, and the share of the loop that telling takes (MLflow in SQLite).
"""

import json
import sys
import time
from pathlib import Path

import mlflow.pyfunc
from PIL import Image

from tasks.core.config.presets import load_preset
from tasks.core.store import FolderStore
from tasks.core.training.cli import prepare
from tasks.core.training.local import local_settings, track_locally
from tasks.core.training.run import train

STEPS = 40


class _First:
    """Notes when the first step was done."""

    at = 0.0

    def step(self, step: int, metrics: dict[str, float]) -> None:
        self.at = self.at or time.perf_counter()

    def samples(self, step: int, pictures: list[Image.Image]) -> None: ...
    def resumed(self, step: int) -> None: ...
    def told(self, message: str) -> None: ...


def main(folder: Path) -> None:
    out = folder / f"out-{time.time_ns()}"
    settings = local_settings(out).model_copy(update={"cache": folder / "cache"})
    store = FolderStore(out / "store")
    preset = load_preset("embedded")
    short = preset.train.model_copy(update={"steps": STEPS})
    plan = prepare(store, settings, preset.model_copy(update={"train": short}), folder / "pictures", out)
    track_locally(out)
    mlflow.search_runs(search_all_experiments=True)  # opens the store, which is imported then
    begin = time.perf_counter()
    first = _First()
    result = train(store, settings, plan, first)
    print(json.dumps({"start": first.at - begin, "told_share": result.figures["told_share"]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
