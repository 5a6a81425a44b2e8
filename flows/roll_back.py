"""Roll back to an older generation."""

from prefect import flow

from tasks.core.config.requests import PublishRequest, RollBackRequest
from tasks.labels import label_run
from tasks.notify import notify_roll_back
from tasks.promote import project_ledger, record_roll_back
from tasks.publish import announce_publication, distribute_generation, serve_generation
from tasks.timeouts import LONG_FLOW


@flow(name="roll-back", on_running=[label_run], timeout_seconds=LONG_FLOW)
def roll_back(spec: RollBackRequest = RollBackRequest()) -> None:
    """Record the roll-back in the ledger and serve the older generation; the policy then waits for new data."""
    entry = record_roll_back(spec)
    entry, channel = serve_generation(PublishRequest(model=entry.model, generation=entry.generation))
    notify_roll_back(entry, spec)
    announce_publication(entry, channel)
    distribute_generation(entry, channel)
    project_ledger(spec)


if __name__ == "__main__":
    roll_back()
