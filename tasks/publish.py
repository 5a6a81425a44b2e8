"""Publishing."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.context import open_publishing
from tasks.core.events import Champion, emit, make_event
from tasks.core.publishing.run import distribute, serve
from tasks.core.registry.channel import Channel
from tasks.core.requests import PublishRequest
from tasks.core.results import PublishResult


@task(retries=2, retry_delay_seconds=2)
def publish_generation(request: PublishRequest) -> PublishResult:
    """Read the release back, flip the champion channel, and bring the release to every other place."""
    store, settings = open_publishing()
    entry, channel = serve(store, settings, request)
    _tell(channel)
    payload = Champion(reason=entry.reason, generation=channel.generation, release=channel.release)
    key = f"{settings.model}-{channel.generation}"
    emit(store, make_event("dyeworks.champion.published", settings.model, payload, key=key))
    done = distribute(store, settings, entry, channel)
    for place, version in done.places.items():
        get_run_logger().info("generation %d is at %s as %s", entry.generation, place, version or "the bare base")
    return done


def _tell(channel: Channel) -> None:
    """Say on the run's page what is served."""
    told = f"release `{channel.release}`" if channel.release else "the bare base"
    get_run_logger().info("generation %d (%s) is served", channel.generation, told)
    text = f"Generation **{channel.generation}**, {told}, replaces `{channel.previous or 'the bare base'}`."
    create_markdown_artifact(text, key="champion", description="What the storefront serves")
