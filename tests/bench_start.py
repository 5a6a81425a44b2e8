"""The overhead around the steps of a training: `python -m tests.bench_start FOLDER` runs one.

Prints as JSON the seconds from after the imports to the first step, and the share of the loop spent on reporting
(MLflow in SQLite).
"""

import json
import sys
import time
from pathlib import Path

import mlflow.pyfunc
from PIL import Image

from tasks.core.config.installation import Settings
from tasks.core.training.local import local_installation, prepare, track_locally
from tasks.core.training.run import train
from tests.adire import adire

STEPS = 40


class _First:
    """Records the time of the first step."""

    at = 0.0

    def step(self, step: int, metrics: dict[str, float]) -> None:
        self.at = self.at or time.perf_counter()

    def samples(self, step: int, pictures: list[Image.Image]) -> None: ...
    def resumed(self, step: int) -> None: ...
    def note(self, message: str) -> None: ...


def main(folder: Path) -> None:
    out = folder / f"out-{time.time_ns()}"
    installation = local_installation(Settings(cache=folder / "cache"), out)
    model = adire(overrides={"train": {"steps": STEPS}})
    plan = prepare(installation, model, folder / "pictures", out)
    track_locally(out)
    mlflow.search_runs(search_all_experiments=True)  # opens the store, which imports it
    begin = time.perf_counter()
    first = _First()
    result = train(installation, model, plan, first)
    print(json.dumps({"start": first.at - begin, "reporting_share": result.figures["reporting_share"]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
