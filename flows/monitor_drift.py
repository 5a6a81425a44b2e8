"""Compare production prompts with the reference of the champion, model by model."""

from prefect import flow, unmapped

from tasks.context import one_a_model, require_all
from tasks.core.config.requests import MonitorRequest
from tasks.ingest import reconsider_datasets
from tasks.labels import label_run
from tasks.monitor import (
    check_drift,
    decide_retrain,
    embed_prompts,
    find_new_prompts,
    flush_outbox,
    open_check,
    report_drift,
)
from tasks.scale import task_runner
from tasks.timeouts import DAY, LONG_FLOW


@flow(name="monitor-drift", on_running=[label_run], timeout_seconds=DAY)
def monitor_drift(spec: MonitorRequest = MonitorRequest()) -> None:
    """Check one model or all, each by itself: one that fails stops no other."""
    flush_outbox()
    require_all({each.model: check_model(each, return_state=True) for each in one_a_model(spec)})


@flow(name="check-model", on_running=[label_run], task_runner=task_runner(), timeout_seconds=LONG_FLOW)
def check_model(spec: MonitorRequest) -> None:
    """Check the last window for drift and decide whether to retrain; reconsider data whose retrain was declined."""
    reconsider_datasets(spec)
    check = open_check(spec)
    embed_prompts.map(find_new_prompts(check), model=unmapped(check.model)).result()
    record = check_drift(check)
    decision = decide_retrain(record, spec)
    report_drift(check, record, decision)


if __name__ == "__main__":
    monitor_drift()
