"""The champion is put before the public."""

from prefect import flow

from tasks.core.config.requests import PublishRequest
from tasks.labels import label_run
from tasks.publish import announce_publication, distribute_generation, serve_generation
from tasks.timeouts import LONG_FLOW


@flow(name="publish-champion", on_running=[label_run], timeout_seconds=LONG_FLOW)
def publish_champion(spec: PublishRequest = PublishRequest()) -> None:
    """Verify a generation's release, flip the champion channel to it, and bring it to every other place."""
    entry, channel = serve_generation(spec)
    announce_publication(entry, channel)
    distribute_generation(entry, channel)


if __name__ == "__main__":
    publish_champion()
