"""What follows from the ledger is put right."""

from prefect import flow

from tasks.core.config.requests import ReconcileRequest
from tasks.outcomes import close_retrains
from tasks.reconcile import put_right
from tasks.timeouts import LONG_FLOW


@flow(name="reconcile-champion", timeout_seconds=LONG_FLOW)
def reconcile_champion(spec: ReconcileRequest = ReconcileRequest()) -> None:
    """Bring outcomes, channels, other places and MLflow in line with what is recorded, after whatever was killed."""
    close_retrains()
    put_right()


if __name__ == "__main__":
    reconcile_champion()
