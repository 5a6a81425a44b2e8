"""Seconds from after the imports to the first step of a training: `python -m tests.bench_start FOLDER`."""

import sys
import time
from pathlib import Path
from typing import NoReturn

import mlflow.pyfunc
from PIL import Image

from tasks.core.specs import load_preset
from tasks.core.store import FolderStore
from tasks.core.training.__main__ import prepare
from tasks.core.training.local import local_settings, track_locally
from tasks.core.training.run import train


class _Begun(Exception):
    """The first step is done."""


class _First:
    def step(self, step: int, metrics: dict[str, float]) -> NoReturn:
        raise _Begun

    def samples(self, step: int, pictures: list[Image.Image]) -> None: ...
    def resumed(self, step: int) -> None: ...
    def told(self, message: str) -> None: ...


def main(folder: Path) -> None:
    out = folder / "out"
    settings = local_settings(out)
    store = FolderStore(out / "store")
    plan = prepare(store, settings, load_preset("embedded"), folder / "pictures", out)
    track_locally(settings, out)
    mlflow.search_runs(search_all_experiments=True)  # opens the store, which is imported then
    begin = time.perf_counter()
    try:
        train(store, settings, plan, _First())
    except _Begun:
        print(time.perf_counter() - begin)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
