"""What follows from the ledger is put right."""

from prefect import flow

from tasks.core.requests import ReconcileRequest
from tasks.reconcile import put_right


@flow(name="reconcile-champion")
def reconcile_champion(spec: ReconcileRequest = ReconcileRequest()) -> None:
    """Bring channels, other places and MLflow in line with the ledger, after whatever was killed."""
    put_right()


if __name__ == "__main__":
    reconcile_champion()
