"""The outbox: events are durable before they are sent.

An event is first written to the store's outbox, then posted to the Prefect server, then moved to `events/`;
what could not be posted is sent again by the next flow that flushes the outbox. Prefect's own `emit_event` loses events
silently when the server is away.
"""

import logging
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import httpx
from pydantic import Field

from tasks.core import clock
from tasks.core.errors import DocumentInvalid, EventRefused, EventUndelivered, ObjectMissing, SettingError
from tasks.core.events import Event
from tasks.core.prefect_server import PrefectServer, ServerConnection
from tasks.core.store import Store
from tasks.core.store.documents import Document, read_document, render

ATTEMPTS, PATIENCE = 10, timedelta(hours=1)  # after both, a rejected event is moved to `refused/`
POST_SECONDS = 10.0  # for one event, with all tries
PASS_SECONDS = 60.0  # for one pass over the outbox
REMEMBERED = timedelta(days=30)  # how long a sent event is kept
SENT, TIME = "events/", "%Y%m%dT%H%M%S%f"  # place of sent events, whose names begin with the time they were queued
ID_LENGTH = 36  # of a UUID, by which the files of events end
EVERYONE = {  # statuses that concern the server or the client, not the event
    httpx.codes.UNAUTHORIZED,
    httpx.codes.TOO_MANY_REQUESTS,
    httpx.codes.BAD_GATEWAY,
    httpx.codes.SERVICE_UNAVAILABLE,
    httpx.codes.GATEWAY_TIMEOUT,
}
log = logging.getLogger("dyeworks.events")


class Outbox(Document):
    """An event waiting to be sent, and how often the server has refused it."""

    event: Event
    queued: datetime = Field(default_factory=clock.now)
    attempts: int = 0
    reason: str = ""


def emit(store: Store, server: PrefectServer, event: Event) -> None:
    """Queue and send an event; faults of other queued events are not raised.

    Raises:
        EventUndelivered: it was not accepted, and stays queued.
        EventRefused: the server rejected it as malformed; it was moved to `refused/`.
    """
    queue(store, event)
    if fault := send_all(store, server).faults.get(event.id):
        raise fault


def queue(store: Store, event: Event) -> None:
    """Put an event into the outbox; one that is queued already stays as it is."""
    if not is_waiting(store, event):
        store.write(_place(event.id), render(Outbox(event=event)))


def is_waiting(store: Store, event: Event) -> bool:
    """Whether an event is in the outbox."""
    return store.exists(_place(event.id))


def is_known(store: Store, event: Event) -> bool:
    """Whether an event is queued, was sent in the last month, or was rejected."""
    return event.id in known(store, clock.now() - REMEMBERED)


def known(store: Store, since: datetime) -> set[str]:
    """The ids of all events that are queued, were queued since then and sent, or were rejected."""
    sent = store.list(SENT, f"{SENT}{since:{TIME}}")
    keys = [*store.list("outbox/"), *store.list("refused/"), *sent]
    return {key.removesuffix(".json")[-ID_LENGTH:] for key in keys}


class Sent(NamedTuple):
    """How many events a pass over the outbox has sent, and the errors of the others by id."""

    number: int
    faults: dict[str, EventRefused | EventUndelivered]


def flush(store: Store, server: PrefectServer) -> int:
    """Send all that is queued, oldest first; how many were sent.

    Raises:
        EventUndelivered: the server did not accept one, which stays queued; the others were sent if it accepts any.
        EventRefused: the server rejected one as malformed; it was moved to `refused/`, the others were sent.
    """
    sent = send_all(store, server)
    for fault in sent.faults.values():
        raise fault
    return sent.number


def send_all(store: Store, server: PrefectServer) -> Sent:
    """Send all that is queued: those that were never refused first, oldest first, for PASS_SECONDS at most.

    A server that is down, busy, not configured or rejects our credentials ends the pass: the rest stays queued. One
    that answers, but rejects an event, does not delay other events; an event that was rejected ATTEMPTS times, and
    for PATIENCE, by a server that accepts others, is moved to `refused/` with the reason.
    """
    waiting = sorted(_waiting(store), key=lambda entry: (entry.attempts, entry.queued))
    if not waiting:
        return Sent(0, {})
    try:
        with _connect(server, waiting[0].event) as connection:
            return _send(store, connection, waiting)
    except EventUndelivered as fault:
        return Sent(0, {entry.event.id: fault for entry in waiting})


def _send(store: Store, connection: ServerConnection, waiting: list[Outbox]) -> Sent:
    deadline = time.monotonic() + PASS_SECONDS
    faults, count = dict[str, EventRefused | EventUndelivered](), 0
    for entry in waiting:
        try:
            if time.monotonic() > deadline:
                raise EventUndelivered(entry.event.event, "the outbox holds more than can be sent at once")
            _post(connection, entry.event)
        except EventRefused as refusal:
            _set_aside(store, entry, str(refusal))
            faults[entry.event.id] = refusal
        except EventUndelivered as fault:
            faults[entry.event.id] = fault
            if not fault.alone:  # the rest of the outbox would fail the same way
                faults |= {late.event.id: fault for late in waiting[waiting.index(entry) :]}
                return Sent(count, faults)
            _count(store, entry, str(fault), takes_others=count > 0)
        else:
            store.write(f"{SENT}{entry.queued:{TIME}}-{entry.event.id}.json", render(entry.event))
            store.delete(_place(entry.event.id))
            count += 1
    return Sent(count, faults)


def _waiting(store: Store) -> Iterator[Outbox]:
    for key in store.list("outbox/"):
        try:
            yield read_document(store, Outbox, key)
        except ObjectMissing:  # another process has just sent it
            continue
        except DocumentInvalid as error:  # of a later version, or damaged
            log.error("left in the outbox: %s", error)


def _count(store: Store, entry: Outbox, reason: str, takes_others: bool) -> None:
    entry = entry.model_copy(update={"attempts": entry.attempts + 1, "reason": reason})
    if takes_others and entry.attempts >= ATTEMPTS and clock.now() - entry.queued > PATIENCE:
        _set_aside(store, entry, reason)
    else:
        store.write(_place(entry.event.id), render(entry))


def _set_aside(store: Store, entry: Outbox, reason: str) -> None:
    log.error("event %s was moved to refused/: %s", entry.event.id, reason)
    store.write(_aside(entry.event), render(entry.model_copy(update={"reason": reason})))
    store.delete(_place(entry.event.id))


def _place(identity: str) -> str:
    return f"outbox/{identity}.json"


def replay(store: Store, server: PrefectServer, count: int) -> None:
    """Send the newest events of the last month again: a server that was killed may have lost what it had in memory.

    All that follows from an event can be done twice. One that the server rejects does not delay the others.

    Raises:
        EventUndelivered: the server accepts none.
    """
    sent = [*store.list(SENT, f"{SENT}{clock.now() - REMEMBERED:{TIME}}")]
    events = [read_document(store, Event, key) for key in sent[-count:] if count]
    if not events:
        return
    with _connect(server, events[0]) as connection:
        for event in events:
            try:
                _post(connection, event)
            except EventRefused as refusal:
                log.error("%s", refusal)
            except EventUndelivered as fault:
                if not fault.alone:
                    raise
                log.error("%s", fault)


def _connect(server: PrefectServer, event: Event) -> ServerConnection:
    try:
        return server.connect()
    except SettingError as error:
        raise EventUndelivered(event.event, str(error)) from error


def _post(connection: ServerConnection, event: Event) -> None:
    body = event.model_dump(mode="json", exclude={"schema_version"})
    try:
        answer = connection.post("/events", [body], POST_SECONDS)
    except httpx.HTTPError as error:
        raise EventUndelivered(event.event, str(error) or type(error).__name__) from error
    if answer.history and answer.request.method != "POST":
        raise EventUndelivered(event.event, f"PREFECT_API_URL is redirected to {answer.url.copy_with(userinfo=b'')}")
    if answer.is_success:
        return
    if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
        raise EventRefused(event.event, _aside(event), answer.text[:500])
    problem = f"the answer was {answer.status_code}: {answer.text[:500]}{connection.advice(answer.status_code)}"
    raise EventUndelivered(event.event, problem, alone=answer.status_code not in EVERYONE)


def _aside(event: Event) -> str:
    return f"refused/{event.id}.json"
