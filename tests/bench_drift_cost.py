"""What a check of the drift detector costs: CPU time, and memory at its peak, each in a process of its own."""

import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tasks.core.drift import DriftProfile, check, fit_profile, null_statistics
from tests.bench_table import Row, Table
from tests.worlds import World

ENCODER = "bench"
SIZES = ((300, 512, 20), (100_000, 512, 1), (1_000_000, 128, 1))  # rows, d, runs
CHUNK = 50_000
GIB = 2**30


def costs() -> Table:
    """Checks against a B of 2000 rows, windows as memory maps, null tables on disk beforehand."""
    return [alone(*size) for size in SIZES]


def alone(rows: int, d: int, runs: int) -> Row:
    """`measure` in a fresh process."""
    with TemporaryDirectory() as folder:
        prepare(Path(folder), rows, d)
        command = [sys.executable, "-m", "tests.bench_drift_cost", folder, str(runs)]
        found: Row = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return found


def prepare(folder: Path, rows: int, d: int) -> None:
    """Write a profile, a clean window and the null table into the folder."""
    world, rng = World(d, seed=1), np.random.default_rng([32, rows])
    profile = fit_profile(world.window(4000, rng), encoder=ENCODER)
    profile.save(folder / "profile")
    window = np.lib.format.open_memmap(folder / "window.npy", "w+", np.float32, (rows, d))
    for start in range(0, rows, CHUNK):
        window[start : start + CHUNK] = world.window(min(CHUNK, rows - start), rng)
    window.flush()
    null_statistics(rows / profile.card.phi, profile.card.rows_b / profile.card.phi, cache=folder)


def measure(folder: Path, runs: int) -> Row:
    """Check the window, after a warm-up check of its first rows."""
    profile, window = DriftProfile.load(folder / "profile"), np.load(folder / "window.npy", mmap_mode="r")
    check(profile, window[:300], encoder=ENCODER, null_cache=folder)
    before, start = peak(), time.process_time()
    for _ in range(runs):
        check(profile, window, encoder=ENCODER, null_cache=folder)
    seconds = (time.process_time() - start) / runs
    memory: Row = {"extra GiB": (peak() - before) / GIB, "window GiB": window.nbytes / GIB}
    return {"rows": len(window), "d": window.shape[1], "CPU s": seconds, **memory}


def peak() -> int:
    """Peak memory of this process in bytes, including pages of memory maps.

    On Linux `ru_maxrss` survives exec: a child starts with its parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
