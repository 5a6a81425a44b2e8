"""Events against a real HTTP server: sent once, kept while the server is away, sent again in order."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from tasks.core.documents import render
from tasks.core.errors import EventRefused, EventUndelivered
from tasks.core.events import Champion, Declined, Event, Outbox, Uploaded, emit, flush, make_event, replay
from tasks.core.store import FolderStore
from tests.events_server import EventsServer

PAYLOAD = Uploaded(reason="2 objects were uploaded", dataset="cloth")


def uploaded(key: str = "") -> Event:
    return make_event("dyeworks.data.uploaded", "adire", PAYLOAD, key=key)


def waiting(store: FolderStore) -> list[str]:
    return [key.removeprefix("outbox/").removesuffix(".json") for key in store.list("outbox/")]


def test_an_event_is_posted_once_as_prefect_takes_it(events: EventsServer, folder: FolderStore) -> None:
    event = make_event("dyeworks.dataset.ready", "adire", PAYLOAD, {"dyeworks.action": "retrain"}, key="a")
    emit(folder, event)
    assert events.paths == ["/api/events"]
    (posted,) = events.events
    assert set(posted) == {"id", "event", "occurred", "resource", "payload"}
    assert posted["event"] == "dyeworks.dataset.ready"
    assert posted["id"] == event.id
    assert posted["resource"] == {
        "prefect.resource.id": "dyeworks.model.adire",
        "prefect.resource.name": "adire",
        "dyeworks.action": "retrain",
    }
    assert posted["payload"] == {"schema_version": 1, "reason": "2 objects were uploaded", "dataset": "cloth"}
    assert abs(datetime.fromisoformat(posted["occurred"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert waiting(folder) == []


def test_nothing_is_left_to_send_after_that(events: EventsServer, folder: FolderStore) -> None:
    emit(folder, uploaded())
    assert flush(folder) == 0
    assert len(events.events) == 1


def test_an_event_stays_in_the_outbox_while_the_server_is_down(events: EventsServer, folder: FolderStore) -> None:
    events.stop()
    event = uploaded()
    with pytest.raises(EventUndelivered, match=r"dyeworks\.data\.uploaded was not taken.*stays in the outbox"):
        emit(folder, event)
    assert waiting(folder) == [event.id]


def test_a_refusal_keeps_it_too(events: EventsServer, folder: FolderStore) -> None:
    events.status = 500
    with pytest.raises(EventUndelivered, match="500"):
        emit(folder, uploaded("a"))
    events.status = 204
    assert flush(folder) == 1
    assert [e["id"] for e in events.events] == [uploaded("a").id]
    assert waiting(folder) == []


def test_a_malformed_event_is_put_aside_and_holds_up_no_other(events: EventsServer, folder: FolderStore) -> None:
    events.status = 422
    with pytest.raises(EventRefused, match=rf"refused/{uploaded('a').id}\.json"):
        emit(folder, uploaded("a"))
    assert waiting(folder) == []
    assert list(folder.list("refused/")) == [f"refused/{uploaded('a').id}.json"]
    events.status = 204
    emit(folder, uploaded("b"))
    assert [e["id"] for e in events.events] == [uploaded("b").id]


def test_without_a_server_the_setting_is_named(folder: FolderStore) -> None:
    with pytest.raises(EventUndelivered, match="PREFECT_API_URL is not set"):
        emit(folder, uploaded())
    assert len(waiting(folder)) == 1


def test_flush_sends_the_oldest_first(events: EventsServer, folder: FolderStore) -> None:
    queued = [Outbox(event=uploaded(f"{i}"), queued=datetime(2026, 1, 9 - i, tzinfo=UTC)) for i in range(5)]
    for entry in queued:
        folder.write(f"outbox/{entry.event.id}.json", render(entry))
    assert flush(folder) == 5
    assert [e["id"] for e in events.events] == [entry.event.id for entry in reversed(queued)]
    assert waiting(folder) == []


def test_the_next_event_takes_the_waiting_ones_along(events: EventsServer, folder: FolderStore) -> None:
    events.status = 503
    with pytest.raises(EventUndelivered):
        emit(folder, uploaded("first"))
    events.status = 204
    emit(folder, uploaded("second"))
    assert [e["id"] for e in events.events] == [uploaded("first").id, uploaded("second").id]


def test_the_same_key_is_the_same_event() -> None:
    assert uploaded("a").id == uploaded("a").id
    declined = make_event("dyeworks.retrain.declined", "adire", Declined(reason="r", decision="d"), key="a")
    assert len({uploaded("a").id, uploaded("b").id, uploaded().id, uploaded().id, declined.id}) == 5


def test_the_same_event_twice_waits_once(folder: FolderStore) -> None:
    for _ in range(2):
        with pytest.raises(EventUndelivered):
            emit(folder, uploaded("a"))
    assert waiting(folder) == [uploaded("a").id]


def test_the_payload_class_says_what_is_in_it() -> None:
    event = make_event("dyeworks.champion.promoted", "adire", Champion(reason="better", generation=3, release="r"))
    assert event.payload == {"schema_version": 1, "reason": "better", "generation": 3, "release": "r"}


def test_the_server_is_told_who_asks(
    events: EventsServer, folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:pass:word")
    emit(folder, uploaded())
    assert events.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"admin:pass:word").decode()


def test_what_was_sent_can_be_sent_again_under_the_same_ids(events: EventsServer, folder: FolderStore) -> None:
    for name in "abc":
        emit(folder, uploaded(name))
    replay(folder, 2)
    sent = [e["id"] for e in events.events]
    assert sent == [uploaded(name).id for name in "abcbc"]
    assert waiting(folder) == []
