"""The gate, and the ledger."""

from prefect import flow

from tasks.core.requests import PromoteRequest
from tasks.promote import announce_promotion, gate_and_promote, project_ledger


@flow(name="promote-champion")
def promote_champion(spec: PromoteRequest = PromoteRequest()) -> None:
    """Promote an evaluated LoRA if it passes the gate."""
    result = gate_and_promote(spec)
    project_ledger()
    announce_promotion(result)


if __name__ == "__main__":
    promote_champion()
