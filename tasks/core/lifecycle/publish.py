"""A publication from its request to its result."""

from tasks.core import clock
from tasks.core.config.installation import Settings
from tasks.core.config.requests import PublishRequest
from tasks.core.errors import ResultMissing
from tasks.core.publishing.places import publish_elsewhere
from tasks.core.registry.channel import Channel, flip
from tasks.core.registry.ledger import Entry, history
from tasks.core.registry.releases import verify_release
from tasks.core.registry.results import PublishResult, publication_key, save_result
from tasks.core.store import Store
from tasks.core.store.probe import require_conditions


def serve(store: Store, settings: Settings, request: PublishRequest) -> tuple[Entry, Channel]:
    """Read the generation's release back and flip the champion channel to it; repeatable.

    Raises:
        ResultMissing: there is no such generation.
        ReleaseWithdrawn, ObjectMissing, ReleaseCorrupt: its release cannot be served.
    """
    require_conditions(store)
    entries = history(store, settings.model)
    entry = next((e for e in entries if e.generation == (request.generation or len(entries))), None)
    if entry is None:
        raise ResultMissing("promote", str(request.generation or ""))
    if entry.release:
        verify_release(store, settings.model, entry.release)
    return entry, flip(store, settings.model, entry)


def publish(store: Store, settings: Settings, request: PublishRequest) -> PublishResult:
    """Serve a generation, then bring it to every other place; repeatable.

    Serving comes first: a place that cannot be used must not keep a roll-back waiting.
    """
    return distribute(store, settings, *serve(store, settings, request))


def distribute(store: Store, settings: Settings, entry: Entry, channel: Channel) -> PublishResult:
    """Bring what is served to every other place.

    Raises:
        PublishRefused: a place cannot be used; nothing was uploaded to any.
    """
    done = PublishResult(
        key=publication_key(settings.model, entry.generation),
        finished=clock.now(),
        generation=channel.generation,
        release=channel.release,
        places=publish_elsewhere(store, settings, entry),
    )
    save_result(store, done)
    return done
