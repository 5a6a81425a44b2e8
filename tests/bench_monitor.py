"""What a check of the monitor costs after a year of hourly log, beside one after a week.

`python -m tests.bench_monitor FOLDER` runs the last check on a store that `prepare` wrote, in a process of its own and
without a local cache, as on a new machine, and prints its figures as JSON.
"""

import hashlib
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tasks.core.config.installation import Settings
from tasks.core.config.presets import MonitorSpec
from tasks.core.drift.rows import Floats
from tasks.core.installation import Installation
from tasks.core.models.clip import Clip
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.embeddings import EmbeddingCache
from tasks.core.monitoring.log_cache import hour_name, read_hours
from tasks.core.monitoring.records import report_key
from tasks.core.reporting.drift_report import write_pages
from tasks.core.retraining.causes import decide_on_drift
from tasks.core.store import FolderStore
from tasks.core.store.documents import render
from tasks.core.traffic.prompt_log import PromptLine, write_lines
from tests.adire import adire
from tests.bench_drift_cost import peak
from tests.bench_table import Row, row
from tests.counting_store import CountingStore
from tests.ring_store import record
from tests.shop import MODEL, line_at, promote

END = datetime(2026, 3, 20, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
WEEK, YEAR = 9 * 24, 365 * 24  # hours; the reference needs a week before the window
LINES = 40  # an hour, half of which repeat others
D = 512
MIB = 2**20


class HashedClip(Clip):
    """An encoder that costs nothing: a vector for each text, by its hash."""

    def __init__(self) -> None:
        super().__init__(adire(), "cpu")
        self.hash = "bench"

    def encode_texts(self, texts: list[str]) -> Floats:
        seeds = (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts)
        rows = np.array([np.random.default_rng(seed).standard_normal(D) for seed in seeds], np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def monitor() -> list[Row]:
    """Seconds, requests and peak memory of a check."""
    week, year = (alone(hours) for hours in (WEEK, YEAR))
    units = {"check": "s", "requests of a check": "requests", "peak memory of a check": "MiB"}
    return [
        row(f"monitor, {name} after a year", unit, year[name], "after a week", week[name], 1)
        for name, unit in units.items()
    ]


def alone(hours: int) -> dict[str, float]:
    """`measure` in a fresh process."""
    with TemporaryDirectory() as folder:
        prepare(Path(folder), hours)
        command = [sys.executable, "-m", "tests.bench_monitor", folder]
        found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return found


def prepare(folder: Path, hours: int) -> None:
    """So many hours of log with their caches, embeddings and checks, and a frozen reference."""
    store, clip = FolderStore(folder / "store"), HashedClip()
    promote(store)
    cache = EmbeddingCache(store, MODEL, clip.hash, folder / "cache")
    for hour in range(hours, 0, -1):
        lines = lines_of(END - hour * HOUR)
        write_lines(store, MODEL, lines)
        cache.add({hour_name(lines[0].time): list({line.prompt: None for line in lines})}, clip.encode_texts)
        past = record().model_copy(update={"key": report_key(MODEL, lines[0].time), "time": lines[0].time})
        store.write(past.key, render(past))
    read_hours(store, MODEL, END - min(hours, 31 * 24) * HOUR, END)
    check(store, folder / "cache", END - HOUR)
    store.tidy(datetime.now(UTC) + HOUR)  # as the sweep does


def lines_of(start: datetime) -> list[PromptLine]:
    """The lines of an hour: half of them ask what is always asked."""
    times = [start.replace(minute=k, second=0) for k in range(LINES)]
    names = [f"{time:%Y%m%d%H%M}" for time in times]
    prompts = [f"rings {name if k % 2 else k} in adire_style" for k, name in enumerate(names)]
    return [line_at(*each, session=each[1]) for each in zip(times, names, prompts, strict=True)]


def check(store: FolderStore | CountingStore, cache: Path, end: datetime) -> None:
    """A whole check, from its new prompts to its pages."""
    model, clip = adire(), HashedClip()
    installation = Installation(Settings(cache=cache), store)
    found = DriftCheck(installation, model, MonitorSpec(evidently="never"), clip, end)
    found.cache.add(found.new_prompts(), clip.encode_texts)
    past = found.run()
    assert found.reference[1], "the reference is frozen"
    write_pages(found, past, decide_on_drift(store, model, past, model.preset.policy))


def measure(folder: Path) -> dict[str, float]:
    """The figures of the last check."""
    counting = CountingStore(FolderStore(folder / "store"))
    start = time.perf_counter()
    check(counting, folder / "another-cache", END)
    seconds = time.perf_counter() - start
    requests = float(sum(counting.requests.values()))
    return {"check": seconds, "requests of a check": requests, "peak memory of a check": peak() / MIB}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
