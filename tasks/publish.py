"""Publishing."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.context import announce, artifact_key, open_model, with_hub_token
from tasks.core.config.requests import PublishRequest
from tasks.core.installation import open_installation
from tasks.core.lifecycle.announcements import publication_event
from tasks.core.lifecycle.publish import distribute, serve
from tasks.core.registry.channel import Channel
from tasks.core.registry.ledger import Entry
from tasks.core.registry.results import PublishResult
from tasks.timeouts import LONG, SHORT


@task(retries=2, retry_delay_seconds=2, timeout_seconds=LONG)
def serve_generation(request: PublishRequest) -> tuple[Entry, Channel]:
    """Verify the release, and point the champion channel at it."""
    installation, model = open_model(request.model)
    entry, channel = serve(installation, model, request)
    served = f"release `{channel.release}`" if channel.release else "the bare base"
    get_run_logger().info("generation %d (%s) is served", channel.generation, served)
    text = f"Generation **{channel.generation}**, {served}, replaces `{channel.previous or 'the bare base'}`."
    create_markdown_artifact(text, key=artifact_key(model.name, "champion"), description="What the storefront serves")
    return entry, channel


@task(retries=2, retry_delay_seconds=2, timeout_seconds=SHORT)
def announce_publication(entry: Entry, channel: Channel) -> None:
    """Emit the event of the generation now served."""
    event = publication_event(entry.model, channel.generation, channel.release, entry.reason)
    announce(open_installation(), event)


@task(retries=2, retry_delay_seconds=2, timeout_seconds=LONG)
def distribute_generation(entry: Entry, channel: Channel) -> PublishResult:
    """Upload the served generation to every other publishing target."""
    done = with_hub_token(entry.model, lambda installation, model: distribute(installation, model, entry, channel))
    for place, version in done.places.items():
        get_run_logger().info("generation %d is at %s as %s", entry.generation, place, version or "the bare base")
    return done
