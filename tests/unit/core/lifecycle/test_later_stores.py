"""A whole store as a later version of the software would have written it, read and used by today's."""

import gzip
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.access.keys import ApiKey
from tasks.core.config.presets import IngestSpec
from tasks.core.config.requests import PromoteRequest, PublishRequest, RollBackRequest
from tasks.core.data.dataset import Refusal
from tasks.core.data.index import DatasetIndex
from tasks.core.data.ingest import ingest
from tasks.core.data.split import split
from tasks.core.errors import DocumentNewer, ReleaseCorrupt
from tasks.core.events import Declined, make_event
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.lifecycle.roll_back import roll_back
from tasks.core.monitoring.log_cache import HourFile, read_hours
from tasks.core.monitoring.records import DriftRecord
from tasks.core.outbox import Outbox, send_all
from tasks.core.publishing.targets import publish_to_store
from tasks.core.registry.ledger import history
from tasks.core.registry.releases import ReleaseManifest, name_of, prefix, read_manifest, verify_release
from tasks.core.registry.results import STAGES
from tasks.core.registry.withdrawals import Withdrawal, withdrawals
from tasks.core.store import FolderStore, Store
from tasks.core.store.documents import Document
from tasks.core.traffic.feedback import Vote
from tasks.core.training.checkpoints import Checkpoint
from tests.adire import adire, installed
from tests.candidates import evaluated
from tests.events_server import EventsServer
from tests.futures import ADDED, NEW, Later, kinds
from tests.odd_pictures import encoded, noise
from tests.ring_store import END, START, fill, look

DOCUMENTS = (".json", "/latest")  # ends of the keys of documents


@cache
def documents() -> list[type[Document]]:
    return [kind for kind in kinds(Document) if issubclass(kind, Document)]


def kind_of(data: bytes) -> type[Document]:
    """The class of a stored document: the one that would write it just so."""
    (found,) = filter(lambda kind: writes(kind, data), documents())
    return found


def writes(kind: type[Document], data: bytes) -> bool:
    try:
        return bool(kind.model_validate_json(data).model_dump(mode="json") == json.loads(data))
    except ValidationError:
        return False


def changed(key: str, data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """An object with each document in it changed; others stay as they are."""
    if key.endswith(".jsonl.gz"):
        return gzip.compress(b"".join(change(line) + b"\n" for line in gzip.decompress(data).splitlines()))
    if key.endswith(".json.gz"):
        return gzip.compress(change(gzip.decompress(data)))
    return change(data) if key.endswith(DOCUMENTS) else data


def documents_of(store: Store) -> Iterator[str]:
    yield from (key for key in store.list("") if key.endswith((*DOCUMENTS, ".json.gz", ".jsonl.gz")))


class Rewriter:
    """Writes the documents of a store again, as a later version would have written them."""

    def __init__(self, later: Later) -> None:
        self.later, self.names = later, dict[str, str]()  # releases: by today's names, those of the later bytes

    def document(self, data: bytes) -> bytes:
        kind = kind_of(data)
        return self._renamed(self.later.write(kind, json.loads(data)))

    def _renamed(self, data: bytes) -> bytes:
        for old, new in self.names.items():
            data = data.replace(old.encode(), new.encode())
        return data

    def store(self, before: Store, after: Store) -> None:
        for key in before.list(""):
            if key.endswith("/manifest.json") and kind_of(data := before.read(key)) is ReleaseManifest:
                self.names[name_of(data)] = name_of(self.document(data))
        for key in before.list(""):
            place = self._renamed(key.encode()).decode()
            after.write(place, changed(key, before.read(key), self.document))


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> FolderStore:
    """A filled store of today's version."""
    store = FolderStore(tmp_path_factory.mktemp("today"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYEWORKS_STORE", store.url)
        fill(store, adire())
    return store


@pytest.fixture
def rewriter() -> Rewriter:
    return Rewriter(Later())


@pytest.fixture
def future(today: FolderStore, rewriter: Rewriter, tmp_path: Path) -> FolderStore:
    """The same as a later version would have written it."""
    rewriter.store(today, store := FolderStore(tmp_path / "future"))
    return store


def expected(document: Document, rewriter: Rewriter) -> dict[str, Any]:
    text = json.dumps(rewriter.later.read_today(type(document), document.model_dump(mode="json"))).encode()
    found: dict[str, Any] = json.loads(rewriter._renamed(text))
    return found


def test_every_reader_reads_what_a_later_version_has_written(
    today: FolderStore, future: FolderStore, rewriter: Rewriter
) -> None:
    then, now = look(today, "adire"), look(future, "adire")
    assert {type(document) for document in then} > {DriftRecord, Vote, ReleaseManifest, *STAGES}
    assert [document.model_dump(mode="json") for document in now] == [expected(document, rewriter) for document in then]


def test_the_later_version_has_written_its_field_everywhere(future: FolderStore) -> None:
    for key in documents_of(future):
        changed(key, future.read(key), has_field)


def has_field(data: bytes) -> bytes:
    assert json.loads(data)[ADDED] == "new"
    return data


def test_todays_software_goes_on_where_a_later_version_was(future: FolderStore, tmp_path: Path) -> None:
    shop = adire()
    known = {release: read_manifest(future, shop.name, release) for release in releases(future)}
    result = promote(installed(future), shop, PromoteRequest(evaluation=evaluated(future, "d", 4)))
    assert result.generation == 5
    publish(installed(future), shop, PublishRequest())
    entry = roll_back(installed(future), shop, RollBackRequest(actor="ada", reason="too blue"))
    assert entry.release in known
    public = FolderStore(tmp_path / "public")
    publish_to_store(future, public, shop.name, entry)
    assert public.read(prefix(shop.name, entry.release) + "manifest.json") == known[entry.release]
    assert verify_release(public, shop.name, entry.release) == verify_release(future, shop.name, entry.release)
    assert {release: read_manifest(future, shop.name, release) for release in known} == known


def releases(store: Store) -> set[str]:
    gone = {withdrawal.release for withdrawal in withdrawals(store, "adire")}
    return {entry.release for entry in history(store, "adire")} - gone


def test_a_side_that_a_later_version_has_written_is_kept(future: FolderStore) -> None:
    (key,) = (key for key in documents_of(future) if key.endswith("sides.json"))
    future.write("uploads/adire/new.png", encoded(noise(7)))
    manifest, _ = ingest(future, "adire", IngestSpec(), "adire_style")
    split(future, manifest)
    written = json.loads(future.read(key))
    assert len(written["train"]) == 4
    assert written[ADDED] == "new"


def test_events_of_a_later_version_are_sent(folder: FolderStore, events: EventsServer, rewriter: Rewriter) -> None:
    event = make_event("dyeworks.retrain.declined", "adire", Declined(reason="too soon", decision="d1"))
    waiting = rewriter.later.write(Outbox, Outbox(event=event).model_dump(mode="json"))
    folder.write(f"outbox/{event.id}.json", waiting)
    assert send_all(folder, installed(folder).server).number == 1
    assert [posted["event"] for posted in events.events] == [NEW]


@pytest.mark.parametrize("form", ["", "of a later version"])
def test_lines_that_another_version_has_cached_are_read_from_the_log(today: FolderStore, form: str) -> None:
    (key,) = (key for key in documents_of(today) if key.endswith(".json.gz"))
    held = HourFile.model_validate_json(gzip.decompress(today.read(key)))
    other = held.model_copy(update={"form": form, "lines": held.lines[:1]})
    today.write(key, gzip.compress(other.model_dump_json().encode()))
    assert [len(hour.lines) for hour in read_hours(today, "adire", START, END)] == [2]
    assert HourFile.model_validate_json(gzip.decompress(today.read(key))) == held


SENTENCE = "it has schema version 2, and this dyeworks knows 1; update dyeworks"
# a quarantine, caches that are written again, a withdrawn release, a checkpoint, without which the training restarts, a
# key, which is rejected
UNREAD = {Refusal, HourFile, DatasetIndex, Withdrawal, ReleaseManifest, Checkpoint, ApiKey}


def newer(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"schema_version": 2}).encode()


def kinds_in(key: str, data: bytes) -> set[type[Document]]:
    found = set[type[Document]]()

    def note(document: bytes) -> bytes:
        found.add(kind_of(document))
        return document

    changed(key, data, note)
    return found


def refusal(store: Store) -> str:
    try:
        look(store, "adire")
    except (DocumentNewer, ReleaseCorrupt) as error:
        return str(error)
    return ""


def test_a_document_of_a_newer_major_version_is_refused_by_its_reader(today: FolderStore, tmp_path: Path) -> None:
    store, unread = FolderStore(tmp_path / "store"), set[type[Document]]()
    for key in today.list(""):
        store.write(key, today.read(key))
    for key in documents_of(today):
        data = today.read(key)
        store.write(key, changed(key, data, newer))
        if not (message := refusal(FolderStore(tmp_path / "store"))):
            unread |= kinds_in(key, data)
        elif kinds_in(key, data) == {ReleaseManifest}:
            assert "'manifest.json' does not match" in message, "the name is of the bytes"
        else:
            assert message == f"document {key!r} is not valid: {SENTENCE}"
        store.write(key, data)
    assert unread == UNREAD
