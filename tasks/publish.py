"""Publishing."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.context import announce, everywhere, open_context
from tasks.core.config.requests import PublishRequest
from tasks.core.lifecycle.announcements import publication_event
from tasks.core.lifecycle.publish import distribute, serve
from tasks.core.registry.channel import Channel
from tasks.core.registry.ledger import Entry
from tasks.core.registry.results import PublishResult
from tasks.timeouts import LONG, SHORT


@task(retries=2, retry_delay_seconds=2, timeout_seconds=LONG)
def serve_generation(request: PublishRequest) -> tuple[Entry, Channel]:
    """Read the release back, and flip the champion channel."""
    store, settings = open_context()
    entry, channel = serve(store, settings, request)
    told = f"release `{channel.release}`" if channel.release else "the bare base"
    get_run_logger().info("generation %d (%s) is served", channel.generation, told)
    text = f"Generation **{channel.generation}**, {told}, replaces `{channel.previous or 'the bare base'}`."
    create_markdown_artifact(text, key="champion", description="What the storefront serves")
    return entry, channel


@task(retries=2, retry_delay_seconds=2, timeout_seconds=SHORT)
def announce_publication(entry: Entry, channel: Channel) -> None:
    """Tell of what is served now."""
    store, settings = open_context()
    announce(store, publication_event(settings.model, channel.generation, channel.release, entry.reason))


@task(retries=2, retry_delay_seconds=2, timeout_seconds=LONG)
def distribute_generation(entry: Entry, channel: Channel) -> PublishResult:
    """Bring what is served to every other place."""
    done = everywhere(lambda store, settings: distribute(store, settings, entry, channel))
    for place, version in done.places.items():
        get_run_logger().info("generation %d is at %s as %s", entry.generation, place, version or "the bare base")
    return done
