"""Publish the champion."""

from prefect import flow

from tasks.core.config.requests import PublishRequest
from tasks.labels import label_run
from tasks.publish import announce_publication, distribute_generation, serve_generation
from tasks.timeouts import LONG_FLOW


@flow(name="publish-champion", on_running=[label_run], timeout_seconds=LONG_FLOW)
def publish_champion(spec: PublishRequest = PublishRequest()) -> None:
    """Verify a generation's release, point the champion channel at it, and upload it to every other target."""
    entry, channel = serve_generation(spec)
    announce_publication(entry, channel)
    distribute_generation(entry, channel)


if __name__ == "__main__":
    publish_champion()
