"""What people ask for is compared with what the champion was made for."""

from prefect import flow

from tasks.core.requests import MonitorRequest
from tasks.ingest import reconsider_dataset
from tasks.monitor import check_drift, decide_retrain, flush_outbox


@flow(name="monitor-drift")
def monitor_drift(spec: MonitorRequest = MonitorRequest()) -> None:
    """Check the last window for drift and decide whether to retrain; data that had to wait is looked at again."""
    flush_outbox()
    reconsider_dataset()
    record = check_drift(spec)
    decide_retrain(record, spec)


if __name__ == "__main__":
    monitor_drift()
