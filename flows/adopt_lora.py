"""Adopt an existing LoRA as generation 1."""

from prefect import flow

from tasks.core.config.requests import AdoptRequest, PublishRequest
from tasks.labels import label_run
from tasks.lifecycle import adopt_release
from tasks.promote import project_ledger
from tasks.publish import announce_publication, distribute_generation, serve_generation
from tasks.timeouts import LONG_FLOW


@flow(name="adopt-lora", on_running=[label_run], timeout_seconds=LONG_FLOW)
def adopt_lora(spec: AdoptRequest = AdoptRequest()) -> None:
    """Record an existing LoRA as generation 1 and serve it."""
    entry = adopt_release(spec)
    entry, channel = serve_generation(PublishRequest(model=entry.model, generation=entry.generation))
    announce_publication(entry, channel)
    distribute_generation(entry, channel)
    project_ledger(spec)


if __name__ == "__main__":
    adopt_lora()
