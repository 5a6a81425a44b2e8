"""Reconcile everything derived from the ledger."""

from prefect import flow

from tasks.core.config.requests import ReconcileRequest
from tasks.labels import label_run
from tasks.outcomes import close_retrains
from tasks.reconcile import reconcile_projections
from tasks.timeouts import LONG_FLOW


@flow(name="reconcile-champion", on_running=[label_run], timeout_seconds=LONG_FLOW)
def reconcile_champion(spec: ReconcileRequest = ReconcileRequest()) -> None:
    """Update outcomes, channels, publishing targets and MLflow to match the ledger, after interrupted runs."""
    close_retrains(spec)
    reconcile_projections(spec)


if __name__ == "__main__":
    reconcile_champion()
