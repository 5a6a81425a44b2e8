"""A large window is embedded by a Dask cluster of two processes, with the same result."""

import importlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from distributed import Client, LocalCluster, get_task_stream
from prefect.testing.utilities import prefect_test_harness

import flows.monitor_drift
import tasks.monitor
from infra.base.visitors import FIRST_TASTE, log_lines
from tasks.core.errors import SettingError
from tasks.core.monitoring.records import DriftRecord, read_records
from tasks.core.registry.ledger import Entry, append
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tasks.core.traffic.prompt_log import write_lines
from tasks.scale import task_runner
from tests.adire import adire

pytestmark = pytest.mark.e2e


@pytest.fixture
def cluster(own_settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with (
        prefect_test_harness(server_startup_timeout=400),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as found,
    ):
        yield found


def shop(store: FolderStore) -> None:
    """A promoted model, its history, and a day of the same traffic."""
    apply_config(store, adire())
    now = datetime.now(UTC)
    entry = {"generation": 1, "action": "promote", "release": "r", "dataset_version": "v1", "evaluation": "e"}
    append(store, "adire", Entry.model_validate(entry | {"actor": "gate", "reason": "better", "time": now}))
    for count, days, seed in ((4000, (10, 1.01), 1), (400, (0.9, 0), 2)):
        start, end = (now - timedelta(days=d) for d in days)
        write_lines(store, "adire", log_lines(count, FIRST_TASTE, start, end, seed))


def monitor(store: Path, monkeypatch: pytest.MonkeyPatch, dask: str) -> DriftRecord:
    monkeypatch.setenv("DYEWORKS_STORE", str(store))
    monkeypatch.setenv("DYEWORKS_DASK", dask)
    importlib.reload(flows.monitor_drift).monitor_drift()
    return read_records(FolderStore(store), "adire")[-1]


def test_two_processes_embed_a_window_with_the_same_result(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    shop(FolderStore(here))
    shutil.copytree(here, there)
    monkeypatch.setattr(tasks.monitor, "BATCH", 50)
    with Client(cluster) as client:
        client.run(_use, str(there), str(tmp_path / "cache-there"))
        with get_task_stream(client) as stream:
            spread = monitor(there, monkeypatch, cluster.scheduler_address)
    alone = monitor(here, monkeypatch, "")
    assert len({task["worker"] for task in stream.data}) == 2, "both processes had work"
    assert spread.drift
    assert alone.drift
    assert spread.requests == alone.requests == 400
    assert spread.verdict == alone.verdict == "stable"
    assert spread.drift.psi == pytest.approx(alone.drift.psi, abs=0.01), "the two looked some seconds apart"


def _use(store: str, cache: str) -> None:
    """Point a worker at a store; its process was started before the store existed."""
    import os  # noqa: PLC0415

    os.environ.update(DYEWORKS_STORE=store, DYEWORKS_CACHE=cache)


def test_missing_prefect_dask_is_reported(monkeypatch: pytest.MonkeyPatch, own_settings: None) -> None:
    monkeypatch.setenv("DYEWORKS_DASK", "tcp://scheduler:8786")
    monkeypatch.setitem(__import__("sys").modules, "prefect_dask.task_runners", None)
    with pytest.raises(SettingError, match="install the group `scale`"):
        task_runner()
