"""Events against a real HTTP server: sent once, kept while the server is away, sent again in order."""

import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest

from tasks.core import clock, http
from tasks.core.errors import EventRefused, EventUndelivered
from tasks.core.events import Champion, Declined, Event, make_event
from tasks.core.outbox import ATTEMPTS, PATIENCE, Outbox, emit, flush, is_known, known, queue, replay, send_all
from tasks.core.prefect_server import PrefectServer
from tasks.core.store import FolderStore
from tasks.core.store.documents import render
from tests.events_server import EventsServer

PAYLOAD = Declined(reason="too soon", decision="d1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)


def sample(key: str = "") -> Event:
    return make_event("dyeworks.retrain.declined", "adire", PAYLOAD, key=key)


def waiting(store: FolderStore) -> list[str]:
    return [key.removeprefix("outbox/").removesuffix(".json") for key in store.list("outbox/")]


def test_an_event_is_posted_once_as_prefect_takes_it(events: EventsServer, folder: FolderStore) -> None:
    event = make_event("dyeworks.dataset.ready", "adire", PAYLOAD, {"dyeworks.action": "retrain"}, key="a")
    emit(folder, events.prefect, event)
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
    assert posted["payload"] == {
        "model": "adire",
        "schema_version": 1,
        "reason": "too soon",
        "decision": "d1",
    }
    assert abs(datetime.fromisoformat(posted["occurred"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert waiting(folder) == []


def test_nothing_is_left_to_send_after_that(events: EventsServer, folder: FolderStore) -> None:
    emit(folder, events.prefect, sample())
    assert flush(folder, events.prefect) == 0
    assert len(events.events) == 1


def test_an_event_stays_in_the_outbox_while_the_server_is_down(events: EventsServer, folder: FolderStore) -> None:
    events.stop()
    event = sample()
    with pytest.raises(EventUndelivered, match=r"dyeworks\.retrain\.declined was not delivered.*stays in the outbox"):
        emit(folder, events.prefect, event)
    assert waiting(folder) == [event.id]


def test_a_refusal_keeps_it_too(events: EventsServer, folder: FolderStore) -> None:
    events.status = 500
    with pytest.raises(EventUndelivered, match="500"):
        emit(folder, events.prefect, sample("a"))
    events.status = 204
    assert flush(folder, events.prefect) == 1
    assert [e["id"] for e in events.events] == [sample("a").id]
    assert waiting(folder) == []


def test_a_malformed_event_is_put_aside_and_holds_up_no_other(events: EventsServer, folder: FolderStore) -> None:
    events.status = 422
    with pytest.raises(EventRefused, match=rf"refused/{sample('a').id}\.json"):
        emit(folder, events.prefect, sample("a"))
    assert waiting(folder) == []
    assert list(folder.list("refused/")) == [f"refused/{sample('a').id}.json"]
    events.status = 204
    emit(folder, events.prefect, sample("b"))
    assert [e["id"] for e in events.events] == [sample("b").id]


def test_without_a_server_the_setting_is_named(folder: FolderStore) -> None:
    with pytest.raises(EventUndelivered, match="PREFECT_API_URL: not set"):
        emit(folder, PrefectServer(), sample())
    assert len(waiting(folder)) == 1


def test_flush_sends_the_oldest_first(events: EventsServer, folder: FolderStore) -> None:
    queued = [Outbox(event=sample(f"{i}"), queued=datetime(2026, 1, 9 - i, tzinfo=UTC)) for i in range(5)]
    for entry in queued:
        folder.write(f"outbox/{entry.event.id}.json", render(entry))
    assert flush(folder, events.prefect) == 5
    assert [e["id"] for e in events.events] == [entry.event.id for entry in reversed(queued)]
    assert waiting(folder) == []


def test_the_next_event_takes_the_waiting_ones_along(events: EventsServer, folder: FolderStore) -> None:
    events.status = 503
    with pytest.raises(EventUndelivered):
        emit(folder, events.prefect, sample("first"))
    events.status = 204
    emit(folder, events.prefect, sample("second"))
    assert [e["id"] for e in events.events] == [sample("first").id, sample("second").id]


def test_the_same_key_is_the_same_event() -> None:
    assert sample("a").id == sample("a").id
    other = make_event("dyeworks.dataset.ready", "adire", PAYLOAD, key="a")
    assert len({sample("a").id, sample("b").id, sample().id, sample().id, other.id}) == 5


def test_the_same_event_twice_waits_once(folder: FolderStore) -> None:
    for _ in range(2):
        with pytest.raises(EventUndelivered):
            emit(folder, PrefectServer(), sample("a"))
    assert waiting(folder) == [sample("a").id]


def test_the_payload_class_says_what_is_in_it() -> None:
    event = make_event("dyeworks.champion.promoted", "adire", Champion(reason="better", generation=3, release="r"))
    assert event.payload == {"model": "adire", "schema_version": 1, "reason": "better", "generation": 3, "release": "r"}


def test_what_was_sent_can_be_sent_again_under_the_same_ids(events: EventsServer, folder: FolderStore) -> None:
    for name in "abcd":
        emit(folder, events.prefect, sample(name))
    events.refuse = {sample("b").id: 422, sample("c").id: 500}
    replay(folder, events.prefect, 3)
    sent = [e["id"] for e in events.events]
    assert sent == [sample(name).id for name in "abcdd"]
    assert waiting(folder) == []


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422, 500, 501])
def test_an_event_that_the_server_does_not_take_holds_up_no_other(
    events: EventsServer, folder: FolderStore, status: int
) -> None:
    events.refuse[sample("bad").id] = status
    with pytest.raises((EventUndelivered, EventRefused), match=r"dyeworks\.retrain\.declined"):
        emit(folder, events.prefect, sample("bad"))
    emit(folder, events.prefect, sample("good"))
    assert [e["id"] for e in events.events] == [sample("good").id]
    assert waiting(folder) == ([] if status == 422 else [sample("bad").id])
    with pytest.raises(EventUndelivered, match=str(status)) if status != 422 else nullcontext():
        flush(folder, events.prefect)


@pytest.mark.parametrize("status", [401, 429, 502, 503, 504])
def test_an_answer_that_is_about_the_server_lets_all_wait(
    events: EventsServer, folder: FolderStore, status: int
) -> None:
    events.status = status
    for name in "abc":
        queue(folder, sample(name))
    sent = send_all(folder, events.prefect)
    assert sent.number == 0
    assert set(sent.faults) == {sample(name).id for name in "abc"}
    assert {e["attempts"] for e in entries(folder)} == {0}
    assert len(events.paths) in {1, http.TRIES}, "one event was tried"


def entries(store: FolderStore) -> list[dict[str, object]]:
    return [json.loads(store.read(key)) for key in store.list("outbox/")]


def test_one_that_is_never_taken_is_put_aside_with_the_reason_by_a_server_that_takes_others(
    events: EventsServer, folder: FolderStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    events.refuse[sample("bad").id] = 500
    old = clock.now() - PATIENCE - timedelta(minutes=1)
    folder.write(f"outbox/{sample('bad').id}.json", render(Outbox(event=sample("bad"), queued=old)))
    for _ in range(ATTEMPTS + 1):
        send_all(folder, events.prefect)
    assert waiting(folder) == [sample("bad").id], "whether the server takes anything at all is not known"
    emit(folder, events.prefect, sample("good"))
    assert waiting(folder) == []
    (aside,) = [json.loads(folder.read(key)) for key in folder.list("refused/")]
    assert aside["event"]["id"] == sample("bad").id
    assert "500" in aside["reason"]
    assert "moved to refused" in caplog.text


def test_one_that_is_refused_is_not_put_aside_early_nor_begun_anew_when_it_is_queued_again(
    events: EventsServer, folder: FolderStore
) -> None:
    events.refuse[sample("bad").id] = 500
    for number in range(ATTEMPTS + 1):
        queue(folder, sample("bad"))
        emit(folder, events.prefect, sample(f"{number}"))
    (entry,) = entries(folder)
    assert entry["attempts"] == ATTEMPTS + 1


def test_a_document_that_is_no_event_holds_up_no_other(events: EventsServer, folder: FolderStore) -> None:
    folder.write("outbox/damaged.json", b"{}")
    emit(folder, events.prefect, sample("good"))
    assert [e["id"] for e in events.events] == [sample("good").id]
    assert waiting(folder) == ["damaged"]


def test_what_was_queued_sent_or_refused_is_known(events: EventsServer, folder: FolderStore) -> None:
    events.refuse[sample("bad").id] = 422
    emit(folder, events.prefect, sample("sent"))
    with pytest.raises(EventRefused):
        emit(folder, events.prefect, sample("bad"))
    queue(folder, sample("waits"))
    assert known(folder, clock.now() - timedelta(minutes=1)) == {sample(name).id for name in ("sent", "bad", "waits")}
    assert not is_known(folder, sample("new"))
