"""What people ask for is compared with what the champion was made for."""

from prefect import flow

from tasks.core.config.requests import MonitorRequest
from tasks.ingest import reconsider_dataset
from tasks.monitor import check_drift, decide_retrain, embed_prompts, find_new_prompts, flush_outbox, report_drift
from tasks.scale import task_runner
from tasks.timeouts import LONG_FLOW


@flow(name="monitor-drift", task_runner=task_runner(), timeout_seconds=LONG_FLOW)
def monitor_drift(spec: MonitorRequest = MonitorRequest()) -> None:
    """Check the last window for drift and decide whether to retrain; data that had to wait is looked at again."""
    flush_outbox()
    reconsider_dataset()
    embed_prompts.map(find_new_prompts(spec)).result()
    record = check_drift(spec)
    decision = decide_retrain(record, spec)
    report_drift(record, decision, spec)


if __name__ == "__main__":
    monitor_drift()
