"""Publication: serving a generation, and distributing it to other places."""

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PublishRequest
from tasks.core.errors import ResultMissing
from tasks.core.installation import Installation
from tasks.core.publishing.targets import publish_elsewhere
from tasks.core.registry.channel import Channel, flip
from tasks.core.registry.ledger import Entry, history
from tasks.core.registry.releases import verify_release
from tasks.core.registry.results import PublishResult, publication_key, save_result
from tasks.core.store.conditional_writes import require_conditions


def serve(installation: Installation, model: ModelConfig, request: PublishRequest) -> tuple[Entry, Channel]:
    """Verify the generation's release and point the champion channel at it; idempotent.

    Raises:
        ResultMissing: there is no such generation.
        ReleaseWithdrawn, ObjectMissing, ReleaseCorrupt: its release cannot be served.
    """
    require_conditions(installation.store)
    entries = history(installation.store, model.name)
    entry = next((e for e in entries if e.generation == (request.generation or len(entries))), None)
    if entry is None:
        raise ResultMissing("promote", str(request.generation or ""))
    if entry.release:
        verify_release(installation.store, model.name, entry.release)
    return entry, flip(installation.store, model.name, entry)


def publish(installation: Installation, model: ModelConfig, request: PublishRequest) -> PublishResult:
    """Serve a generation, then publish it to every other place; idempotent.

    Serving comes first: a place that is down must not delay a roll-back.
    """
    return distribute(installation, model, *serve(installation, model, request))


def distribute(installation: Installation, model: ModelConfig, entry: Entry, channel: Channel) -> PublishResult:
    """Publish the served generation to every other place.

    Raises:
        PublishRefused: a place cannot be used; nothing was uploaded to any.
    """
    done = PublishResult(
        model=model.name,
        key=publication_key(model.name, entry.generation),
        finished=clock.now(),
        generation=channel.generation,
        release=channel.release,
        places=publish_elsewhere(installation, model, entry),
    )
    save_result(installation.store, done)
    return done
