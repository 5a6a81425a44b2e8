"""Events: their names, their payloads, and a durable outbox.

An event is first written to the store's outbox, then posted to the Prefect server, then moved to `events/`;
what could not be posted is sent again by the next flow that flushes the outbox. Prefect's own `emit_event` loses events
silently when the server is away.
"""

import os
import uuid
from datetime import datetime
from typing import Literal

import httpx
from pydantic import Field

from tasks.core import clock
from tasks.core.documents import Document, read_document, render
from tasks.core.errors import EventRefused, EventUndelivered, ObjectMissing
from tasks.core.http import PatientTransport
from tasks.core.store import Store

Name = Literal[
    "dyeworks.data.uploaded",
    "dyeworks.dataset.ready",
    "dyeworks.drift.detected",
    "dyeworks.champion.promoted",
    "dyeworks.champion.published",
    "dyeworks.champion.unhealthy",
    "dyeworks.retrain.declined",
]


class Payload(Document):
    """What all events say."""

    reason: str


class Uploaded(Payload):
    """New data lies in the uploads."""

    dataset: str


class DatasetReady(Payload):
    """A new dataset version exists."""

    dataset: str
    version: str
    new_pictures: int
    decision: str


class DriftDetected(Payload):
    """The policy has decided to retrain."""

    psi: float
    report: str
    decision: str


class Champion(Payload):
    """A generation was promoted or published."""

    generation: int
    release: str


class Unhealthy(Champion):
    """A guard of the storefront wants a generation taken back: it does not draw, or visitors dislike it."""

    kind: Literal["health", "feedback"]


class Declined(Payload):
    """The policy has decided not to retrain though there was a cause."""

    decision: str


class Event(Document):
    """An event as the Prefect server takes it."""

    id: str
    event: Name
    occurred: datetime
    resource: dict[str, str]
    payload: dict[str, object]


class Outbox(Document):
    """An event waiting to be sent."""

    event: Event
    queued: datetime = Field(default_factory=clock.now)


def make_event(name: Name, model: str, payload: Payload, labels: dict[str, str] | None = None, key: str = "") -> Event:
    """An event about a model; the same `key` gives the same id, so that it is counted once."""
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{name}:{key}") if key else uuid.uuid4()
    resource = {"prefect.resource.id": f"dyeworks.model.{model}", "prefect.resource.name": model, **(labels or {})}
    content = payload.model_dump(mode="json")
    # The server keeps real time, whatever the time of the data is.
    return Event(id=str(identity), event=name, occurred=datetime.now().astimezone(), resource=resource, payload=content)


def emit(store: Store, event: Event) -> None:
    """Queue and send an event; raises EventUndelivered, the event then stays queued."""
    queue(store, event)
    flush(store)


def queue(store: Store, event: Event) -> None:
    """Put an event into the outbox."""
    store.write(f"outbox/{event.id}.json", render(Outbox(event=event)))


def is_waiting(store: Store, event: Event) -> bool:
    """Whether an event is in the outbox."""
    return store.exists(f"outbox/{event.id}.json")


def is_known(store: Store, event: Event) -> bool:
    """Whether an event waits, was sent, or was refused; lists all that were sent, so not for every moment."""
    if is_waiting(store, event) or store.exists(f"refused/{event.id}.json"):
        return True
    return any(key.endswith(f"-{event.id}.json") for key in store.list("events/"))


def flush(store: Store) -> int:
    """Send all that is queued, oldest first; how many were sent.

    Raises:
        EventUndelivered: the server did not take one; it and all after it stay queued.
        EventRefused: the server says that one is malformed; it is put aside in `refused/`, the others were sent.
    """
    waiting = []
    for key in store.list("outbox/"):
        try:
            waiting.append((read_document(store, Outbox, key), key))
        except ObjectMissing:  # another process has just sent it
            continue
    refusals = []
    for entry, key in sorted(waiting, key=lambda pair: pair[0].queued):
        try:
            _post(entry.event)
            place = f"events/{entry.queued:%Y%m%dT%H%M%S%f}-{entry.event.id}.json"
        except EventRefused as refusal:
            refusals.append(refusal)
            place = refusal.key
        store.write(place, render(entry.event))
        store.delete(key)
    if refusals:
        raise refusals[0]
    return len(waiting)


def replay(store: Store, count: int) -> None:
    """Send the newest events again, after a server was killed: it acts on events from memory and may have lost them.

    All that follows from an event can be done twice.
    """
    for key in list(store.list("events/"))[-count:]:
        _post(read_document(store, Event, key))


def _post(event: Event) -> None:
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        raise EventUndelivered(event.event, "PREFECT_API_URL is not set")
    secret = os.environ.get("PREFECT_API_AUTH_STRING", "")
    body = event.model_dump(mode="json", exclude={"schema_version"})
    auth = httpx.BasicAuth(*secret.split(":", 1)) if ":" in secret else None
    try:
        with httpx.Client(transport=PatientTransport(), auth=auth, timeout=20) as client:
            answer = client.post(f"{url.rstrip('/')}/events", json=[body])
            if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
                raise EventRefused(event.event, f"refused/{event.id}.json", answer.text[:500])
            answer.raise_for_status()
    except httpx.HTTPError as error:
        raise EventUndelivered(event.event, str(error)) from error
