"""What people ask for is compared with what the champion was made for."""

from prefect import flow

from tasks.core.requests import MonitorRequest
from tasks.monitor import check_drift, decide_retrain, flush_outbox


@flow(name="monitor-drift")
def monitor_drift(spec: MonitorRequest = MonitorRequest()) -> None:
    """Check the last window for drift and decide whether to retrain."""
    flush_outbox()
    record = check_drift(spec)
    decide_retrain(record, spec)


if __name__ == "__main__":
    monitor_drift()
