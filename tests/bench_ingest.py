"""Ingest of many pictures of 512 px, on a folder and on a real S3 server: all cores beside one thread, then ten more.

`PICTURES=1000 python -m tests.bench ingest` takes fewer than 10,000. `python -m tests.bench_ingest STORE THREADS` runs
one ingest in a process of its own, and prints its seconds and its peak memory.
"""

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import index_key
from tasks.core.data.ingest import ingest
from tasks.core.data.parallel import in_order
from tasks.core.store import FolderStore, Store, open_store
from tests.bench_table import Row, Table, row, show
from tests.s3_server import BUCKET, s3_server

COUNT = int(os.environ.get("PICTURES", "10000"))
ON_S3 = 10  # of so many pictures one is ingested from S3 too
SIDE, GRAIN, TEXTURES = 512, 64, 200
NAME = "cloth"
Found = dict[str, float]


def ingests() -> list[Row]:
    """The rows of both stores."""
    with TemporaryDirectory() as folder, s3_server() as environment:
        on_folder = measured(FolderStore(Path(folder)), folder, COUNT, {})
        os.environ.update(environment)
        place = f"s3://{BUCKET}/bench"
        on_s3 = measured(open_store(place), place, COUNT // ON_S3, environment)
    return rows("folder", COUNT, on_folder) + rows("SeaweedFS", COUNT // ON_S3, on_s3)


def measured(store: Store, place: str, count: int, environment: dict[str, str]) -> dict[str, Found]:
    """Seconds and MiB of each way to ingest."""

    def alone(threads: int) -> Found:
        command = [sys.executable, "-m", "tests.bench_ingest", place, str(threads)]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        found: Found = json.loads(done.stdout)
        return found

    upload(store, range(count))
    time.sleep(3)  # so that no upload is too young to be remembered
    found = {"one thread": alone(1)}
    forget(store, place)
    found["all cores"] = alone(0)
    upload(store, range(count, count + 10))
    time.sleep(3)
    found["ten more"] = alone(0)
    store.delete(index_key(NAME))
    found["ten more, without the index, one thread"] = alone(1)
    show(f"Ingest of {count} pictures of {SIDE} px, {place.partition(':')[0]}", _table(found))
    return found


def _table(found: dict[str, Found]) -> Table:
    return [{"way": name, **figures} for name, figures in found.items()]


def rows(kind: str, count: int, found: dict[str, Found]) -> list[Row]:
    """What is compared."""
    all_cores, one = found["all cores"], found["one thread"]
    ten, ten_before = found["ten more"], found["ten more, without the index, one thread"]
    what = f"ingest of {count:,} pictures, {kind}"
    return [
        row(what, "pictures/s", count / all_cores["seconds"], "one thread", count / one["seconds"], 1),
        row(f"peak memory of an {what}", "MiB", all_cores["peak"], "one thread", one["peak"], 1),
        row(f"ten more after an {what}", "s", ten["seconds"], "without the index", ten_before["seconds"], 1),
    ]


def forget(store: Store, place: str) -> None:
    """Remove what an ingest has made."""
    if "://" not in place:
        for folder in ("blobs", "datasets"):
            shutil.rmtree(Path(place) / folder)
        return
    store.delete_many([key for prefix in ("blobs/", "datasets/") for key in store.list(prefix)])


def upload(store: Store, numbers: range) -> None:
    """Put distinct pictures under their numbers."""
    with ProcessPoolExecutor() as pool:
        drawn = list(pool.map(texture, range(TEXTURES)))

    def put(number: int) -> None:
        store.write(f"uploads/{NAME}/{number:06}.jpg", with_comment(drawn[number % TEXTURES], str(number)))

    for _ in in_order(put, numbers):
        pass


def texture(seed: int) -> bytes:
    """A JPEG of coloured clouds."""
    grain = np.random.default_rng(seed).integers(0, 255, (GRAIN, GRAIN, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grain).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def with_comment(jpeg: bytes, text: str) -> bytes:
    """The same picture as another file."""
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text.encode() + jpeg[2:]


def main(place: str, threads: str) -> None:
    """Run one ingest."""
    begun = time.perf_counter()
    ingest(open_store(place), NAME, IngestSpec(), workers=int(threads))
    seconds, usage = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    figures = {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "peak": _peak()}
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


def _peak() -> float:
    """MiB; unlike `ru_maxrss`, not those of the process that has started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(*sys.argv[1:])
