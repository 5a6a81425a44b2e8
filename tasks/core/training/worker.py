"""One of several processes of a training: `python -m tasks.core.training.worker FOLDER`, started by `launch`.

The first of them reports the progress of the training on its standard output, in lines of JSON.
"""

import json
import os
import sys
from pathlib import Path

from PIL import Image

from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig
from tasks.core.config.stored import read_stored
from tasks.core.errors import DyeworksError
from tasks.core.installation import Installation
from tasks.core.store import open_store
from tasks.core.store.documents import parse
from tasks.core.training.distributed import ManyRanks
from tasks.core.training.fit import fit
from tasks.core.training.plan import TrainPlan

MOST = 2000  # characters of an error: longer lines may be torn
PLAN, MODEL = "plan.json", "model.json"  # that `launch` wrote into the folder
MARK = "dyeworks-training "  # begins the lines that are for `launch`: libraries print too


def emit(kind: str, value: object) -> None:
    """Write a line for the parent process, in one write: another process may write at the same time."""
    os.write(1, f"{MARK}{json.dumps([kind, value])}\n".encode())


class Relay:
    """Sends what an observer is called with to the parent process; pictures are passed by a folder."""

    def __init__(self, first: bool, folder: Path) -> None:
        self.first, self.folder = first, folder

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """After every step."""
        self._emit("step", [step, metrics])

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        """Sample pictures."""
        paths = [self.folder / f"sample-{step}-{i}.png" for i in range(len(pictures))]
        for path, picture in zip(paths, pictures, strict=True):
            picture.save(path)
        self._emit("samples", [step, [str(path) for path in paths]])

    def resumed(self, step: int) -> None:
        """It resumed."""
        self._emit("resumed", step)

    def note(self, message: str) -> None:
        """A message for people."""
        self._emit("note", message)

    def _emit(self, kind: str, value: object) -> None:
        if self.first:
            emit(kind, value)


def main(folder: Path) -> int:
    """Do this process's part of the training; 0 when it is done."""
    settings = Settings()
    ranks = ManyRanks(settings.device)
    settings = settings.model_copy(update={"device": ranks.device})
    model = read_stored(ModelConfig, (folder / MODEL).read_bytes())
    plan = parse(TrainPlan, (folder / PLAN).read_bytes(), PLAN)
    adapter, pictures = folder / "adapter", folder / "samples"
    for made in (adapter, pictures):
        made.mkdir(exist_ok=True)
    try:
        installation = Installation(settings, open_store(settings.store))
        figures = fit(installation, model, plan, Relay(ranks.rank == 0, pictures), adapter, ranks)
    except DyeworksError as error:
        emit("failed", str(error)[:MOST])
        return 1
    if ranks.rank == 0:
        emit("figures", figures)
    ranks.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
