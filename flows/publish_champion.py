"""The champion is put before the public."""

from prefect import flow

from tasks.core.requests import PublishRequest
from tasks.publish import publish_generation


@flow(name="publish-champion")
def publish_champion(spec: PublishRequest = PublishRequest()) -> None:
    """Verify a generation's release, flip the champion channel to it, and bring it to every other place."""
    publish_generation(spec)


if __name__ == "__main__":
    publish_champion()
