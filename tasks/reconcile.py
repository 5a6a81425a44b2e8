"""Reconciliation of everything derived from the ledger."""

from prefect import get_run_logger, task

from tasks.context import with_hub_token
from tasks.core.config.requests import ModelRequest
from tasks.core.errors import ReconcileFailed
from tasks.core.lifecycle.reconcile import reconcile
from tasks.timeouts import LONG


@task(retries=2, retry_delay_seconds=5, timeout_seconds=LONG)
def reconcile_projections(request: ModelRequest) -> tuple[str, ...]:
    """Update every projection to match the ledger, and log the changes."""
    try:
        changes = with_hub_token(request.model, reconcile)
    except ReconcileFailed as error:
        _log(error.changes)
        raise
    _log(changes)
    return changes


def _log(changes: tuple[str, ...]) -> None:
    for change in changes:
        get_run_logger().warning("reconcile: %s", change)
