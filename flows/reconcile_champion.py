"""Reconcile everything derived from the ledger, model by model."""

from prefect import flow

from tasks.context import one_a_model, require_all
from tasks.core.config.requests import ReconcileRequest
from tasks.labels import label_run
from tasks.outcomes import close_retrains
from tasks.reconcile import reconcile_projections
from tasks.timeouts import DAY, LONG_FLOW


@flow(name="reconcile-champion", on_running=[label_run], timeout_seconds=DAY)
def reconcile_champion(spec: ReconcileRequest = ReconcileRequest()) -> None:
    """Reconcile one model or all, each by itself: one that fails stops no other."""
    require_all({each.model: reconcile_model(each, return_state=True) for each in one_a_model(spec)})


@flow(name="reconcile-model", on_running=[label_run], timeout_seconds=LONG_FLOW)
def reconcile_model(spec: ReconcileRequest) -> None:
    """Update outcomes, channels, publishing targets and MLflow to match the ledger, after interrupted runs."""
    close_retrains(spec)
    reconcile_projections(spec)


if __name__ == "__main__":
    reconcile_champion()
