"""One of several processes of a training: `python -m tasks.core.training.worker FOLDER`, started by `launch`.

The first of them tells on its standard output, in lines of JSON, how the training goes.
"""

import json
import os
import sys
from pathlib import Path

from PIL import Image

from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig
from tasks.core.errors import DyeworksError
from tasks.core.installation import Installation
from tasks.core.store import open_store
from tasks.core.store.documents import parse
from tasks.core.training.distributed import ManyRanks
from tasks.core.training.fit import fit
from tasks.core.training.plan import TrainPlan

MOST = 2000  # characters of an error: longer lines may be torn
PLAN, MODEL = "plan.json", "model.json"  # what `launch` has left in the folder
MARK = "dyeworks-training "  # begins the lines that are for `launch`: libraries print too


def tell(kind: str, value: object) -> None:
    """A line for the process that waits, in one piece: another process may write at the same time."""
    os.write(1, f"{MARK}{json.dumps([kind, value])}\n".encode())


class Relay:
    """Tells what an observer is told; pictures lie in a folder."""

    def __init__(self, first: bool, folder: Path) -> None:
        self.first, self.folder = first, folder

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """After every step."""
        self._tell("step", [step, metrics])

    def samples(self, step: int, pictures: list[Image.Image]) -> None:
        """Sample pictures."""
        paths = [self.folder / f"sample-{step}-{i}.png" for i in range(len(pictures))]
        for path, picture in zip(paths, pictures, strict=True):
            picture.save(path)
        self._tell("samples", [step, [str(path) for path in paths]])

    def resumed(self, step: int) -> None:
        """It goes on."""
        self._tell("resumed", step)

    def told(self, message: str) -> None:
        """Something that people should know."""
        self._tell("told", message)

    def _tell(self, kind: str, value: object) -> None:
        if self.first:
            tell(kind, value)


def main(folder: Path) -> int:
    """Do this process's part of the training; 0 when it is done."""
    settings = Settings()
    ranks = ManyRanks(settings.device)
    settings = settings.model_copy(update={"device": ranks.device})
    model = ModelConfig.model_validate_json((folder / MODEL).read_bytes())
    plan = parse(TrainPlan, (folder / PLAN).read_bytes(), PLAN)
    adapter, pictures = folder / "adapter", folder / "samples"
    for made in (adapter, pictures):
        made.mkdir(exist_ok=True)
    try:
        installation = Installation(settings, open_store(settings.store))
        figures = fit(installation, model, plan, Relay(ranks.rank == 0, pictures), adapter, ranks)
    except DyeworksError as error:
        tell("failed", str(error)[:MOST])
        return 1
    if ranks.rank == 0:
        tell("figures", figures)
    ranks.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
