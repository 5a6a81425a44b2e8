"""Delete what nothing needs any more."""

from prefect import flow

from tasks.core.config.requests import SweepRequest
from tasks.labels import label_run
from tasks.sweep import compact_logs, sweep_artifacts, sweep_objects
from tasks.timeouts import LONG_FLOW


@flow(name="sweep-store", on_running=[label_run], timeout_seconds=LONG_FLOW)
def sweep_store(spec: SweepRequest = SweepRequest()) -> None:
    """Compact the logs, sweep the store and Prefect's artifacts, or only report what would be deleted."""
    compact_logs(spec)
    sweep_objects(spec)
    sweep_artifacts(spec)


if __name__ == "__main__":
    sweep_store()
