"""Gate an evaluated LoRA and record its promotion in the ledger."""

from prefect import flow

from tasks.core.config.requests import PromoteRequest
from tasks.labels import label_run
from tasks.notify import notify_promotion
from tasks.promote import announce_promotion, gate_and_promote, project_ledger, show_decision
from tasks.timeouts import LONG_FLOW


@flow(name="promote-champion", on_running=[label_run], timeout_seconds=LONG_FLOW)
def promote_champion(spec: PromoteRequest = PromoteRequest()) -> None:
    """Promote an evaluated LoRA if it passes the gate, and send a notification."""
    result = gate_and_promote(spec)
    announce_promotion(result)
    notify_promotion(result, spec)
    show_decision(result, spec)
    project_ledger(spec)


if __name__ == "__main__":
    promote_champion()
