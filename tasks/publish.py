"""Publishing."""

import tempfile
from pathlib import Path

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from tasks.context import open_context
from tasks.core import clock
from tasks.core.errors import ResultMissing
from tasks.core.events import Champion, emit, make_event
from tasks.core.registry.channel import flip
from tasks.core.registry.ledger import history
from tasks.core.registry.releases import fetch_release
from tasks.core.requests import PublishRequest
from tasks.core.results import PublishResult, publication_key, save_result


@task(retries=2, retry_delay_seconds=2)
def publish_generation(request: PublishRequest) -> PublishResult:
    """Read the release back, compare every file with its sha256, and flip the champion channel."""
    store, settings = open_context()
    entries = history(store, settings.model)
    entry = next((e for e in entries if e.generation == (request.generation or len(entries))), None)
    if entry is None:
        raise ResultMissing("promote", str(request.generation or ""))
    with tempfile.TemporaryDirectory() as folder:
        fetch_release(store, settings.model, entry.release, Path(folder))
    channel = flip(store, settings.model, entry)
    get_run_logger().info("generation %d (release %s) is served", channel.generation, channel.release)
    replaced = channel.previous or "the bare base"
    text = f"Generation **{channel.generation}**, release `{channel.release}`, replaces `{replaced}`."
    create_markdown_artifact(text, key="champion", description="What the storefront serves")
    payload = Champion(reason=entry.reason, generation=channel.generation, release=channel.release)
    key = f"{settings.model}-{channel.generation}"
    emit(store, make_event("dyeworks.champion.published", settings.model, payload, key=key))
    done = PublishResult(
        key=publication_key(settings.model, entry.generation),
        finished=clock.now(),
        generation=channel.generation,
        release=channel.release,
    )
    save_result(store, done)
    return done
