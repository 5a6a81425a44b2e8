"""An ingest reads what is new or was changed since the last one, on a folder and on a real S3 server."""

import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import (
    Item,
    Manifest,
    Refusal,
    blobs,
    head_key,
    index_key,
    load_manifest,
    manifest_key,
    remarks,
)
from tasks.core.data.index import read_index
from tasks.core.data.ingest import ingest
from tasks.core.data.picture_validation import examine
from tasks.core.data.uploads import UNSETTLED
from tasks.core.errors import StoreConflict
from tasks.core.store import FolderStore, Store, open_store
from tasks.core.store.documents import read_document, render
from tests.counting_store import CountingStore
from tests.odd_pictures import encoded, noise

SPEC = IngestSpec(instance_prompt="cloth")
NAME = "cloth"
INDEX = index_key(NAME)


def plain(seed: int) -> bytes:
    """A picture of as many bytes as any other."""
    return encoded(noise(seed, 40, 40), compress_level=0)


class Shelf:
    """A store of uploads, and the requests that ingests take."""

    def __init__(self, store: Store, root: Path | None = None) -> None:
        self.store, self.root = store, root
        self.counting = CountingStore(store)

    def put(self, **files: bytes) -> None:
        for name, data in files.items():
            self.store.write(f"uploads/{NAME}/{name}", data)

    def settle(self) -> None:
        """Let some time pass since the last uploads."""
        for found in self.store.scan(f"uploads/{NAME}/"):
            if self.root and datetime.now(UTC) - found.time < 2 * UNSETTLED:
                path = self.root / found.key
                os.utime(path, ns=(path.stat().st_mtime_ns - 10**10,) * 2)
            while not self.root and datetime.now(UTC) - found.time <= UNSETTLED:
                time.sleep(0.1)

    def ingest(self, spec: IngestSpec = SPEC) -> Manifest:
        self.counting = CountingStore(self.store)
        return ingest(self.counting, NAME, spec)[0]

    def read(self) -> list[str]:
        """The uploads that the last ingest has read."""
        keys = [key for key in self.counting.requests if key.startswith("read uploads/")]
        return sorted(key.removeprefix(f"read uploads/{NAME}/") for key in keys)

    def requests(self, *methods: str) -> int:
        found = self.counting.requests.items()
        return sum(count for key, count in found if not methods or key.startswith(methods))


@pytest.fixture(params=["folder", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "folder":
        return Shelf(FolderStore(tmp_path / "store"), tmp_path / "store")
    return Shelf(open_store(f"s3://{request.getfixturevalue('bucket')}/{uuid4().hex}"))


@pytest.fixture
def local(tmp_path: Path) -> Shelf:
    return Shelf(FolderStore(tmp_path / "store"), tmp_path / "store")


TABLE = b'{"file_name": "b.png", "text": "dots"}\n'
FILES = {
    "a.png": plain(1),
    "b.png": plain(2),
    "copy of a.png": plain(1),
    "torn.png": plain(3)[:900],
    "print.jpg": encoded(noise(4).convert("CMYK"), "JPEG"),
    "a.txt": b"rings",
    "print.txt": b"\xff\xfe\xff",
    "metadata.jsonl": TABLE,
}


def test_nothing_is_read_again_and_the_outcome_is_the_same(shelf: Shelf) -> None:
    shelf.put(**FILES)
    shelf.settle()
    manifest = shelf.ingest()
    assert shelf.read() == sorted(FILES)
    told, held = remarks(shelf.store, manifest), {key: shelf.store.read(key) for key in shelf.store.list("quarantine/")}
    assert shelf.ingest() == manifest
    assert shelf.read() == []
    assert shelf.requests("write blobs", "write quarantine", "read blobs") == 0
    assert shelf.requests("exists") == 1, "whether the last ingest failed"
    assert remarks(shelf.store, manifest) == told
    assert {key: shelf.store.read(key) for key in shelf.store.list("quarantine/")} == held
    assert len(held) == 2


def captions(manifest: Manifest) -> dict[str, str]:
    return {item.name: item.caption for item in manifest.items}


def test_what_was_changed_is_read_and_what_was_removed_is_gone(shelf: Shelf) -> None:
    shelf.put(**{"a.png": plain(1), "b.png": plain(2), "c.png": plain(3), "a.txt": b"rings", "metadata.jsonl": TABLE})
    shelf.settle()
    first = shelf.ingest()
    assert captions(first) == {"a.png": "rings", "b.png": "dots", "c.png": "cloth"}
    shelf.put(**{"a.txt": b"waves", "b.png": plain(7), "metadata.jsonl": TABLE.replace(b"dots", b"suns")})
    shelf.store.delete(f"uploads/{NAME}/c.png")
    shelf.settle()
    second = shelf.ingest()
    assert shelf.read() == ["a.txt", "b.png", "metadata.jsonl"]
    assert captions(second) == {"a.png": "waves", "b.png": "suns"}
    assert second.new == 1
    assert {data for _, data in blobs(shelf.store, NAME, second.items)} == {plain(1), plain(7)}
    assert shelf.ingest() == second
    assert shelf.read() == []


def test_other_limits_read_all_uploads_again(local: Shelf) -> None:
    local.put(**{"a.png": plain(1), "small.png": encoded(noise(2, 33, 33)), "a.txt": b"rings"})
    local.settle()
    first = local.ingest()
    strict = SPEC.model_copy(update={"min_side": 36})
    assert [item.name for item in local.ingest(strict).items] == ["a.png"]
    assert local.read() == ["a.png", "a.txt", "small.png"]
    assert local.ingest() == first
    assert local.ingest(SPEC.model_copy(update={"instance_prompt": "silk"})).version != first.version
    assert local.read() == [], "captions are no limits"


@pytest.mark.parametrize("constant", ["picture_validation.EXAMINATION", "index.READING"])
def test_other_code_reads_all_uploads_again(local: Shelf, monkeypatch: pytest.MonkeyPatch, constant: str) -> None:
    local.put(**{"a.png": plain(1), "a.txt": b"rings"})
    local.settle()
    manifest = local.ingest()
    monkeypatch.setattr(f"tasks.core.data.{constant}", "another")
    assert local.ingest() == manifest
    assert local.read() == ["a.png", "a.txt"]


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]", b'{"pictures": 7}', b'{"schema_version": 2}', None])
def test_without_a_readable_index_all_uploads_are_read(local: Shelf, damage: bytes | None) -> None:
    local.put(**FILES)
    local.settle()
    manifest = local.ingest()
    local.store.delete(INDEX) if damage is None else local.store.write(INDEX, damage)
    assert local.ingest() == manifest
    assert local.read() == sorted(FILES)
    assert local.ingest() == manifest
    assert local.read() == []


def test_an_upload_that_was_just_written_is_read_again(local: Shelf, tmp_path: Path) -> None:
    """It may be written again with the same size and time, and even into the same file."""
    local.put(**{"a.png": plain(1), "b.png": plain(2)})
    local.settle()
    path, ahead = tmp_path / f"store/uploads/{NAME}/a.png", time.time_ns() + 60 * 10**9
    os.utime(path, ns=(ahead, ahead))
    local.ingest()
    with path.open("r+b") as file:
        file.write(plain(3))
    os.utime(path, ns=(ahead, ahead))
    manifest = local.ingest()
    assert local.read() == ["a.png"]
    assert {data for _, data in blobs(local.store, NAME, manifest.items)} == {plain(3), plain(2)}


def forget_the_index(shelf: Shelf) -> None:
    shelf.store.delete(INDEX)


@pytest.mark.parametrize("between", [lambda _: None, forget_the_index], ids=["indexed", "of a store of 0.2.0"])
def test_new_is_what_no_earlier_version_has(local: Shelf, between: Callable[[Shelf], None]) -> None:
    local.put(**{"a.png": plain(1), "b.png": plain(2)})
    assert local.ingest().new == 2
    local.store.delete(f"uploads/{NAME}/b.png")
    local.put(**{"c.png": plain(3)})
    between(local)
    assert local.ingest().new == 1
    local.put(**{"b.png": plain(2), "d.png": plain(4)})
    between(local)
    assert local.ingest().new == 1
    local.store.delete(f"uploads/{NAME}/d.png")
    between(local)
    assert local.ingest().new == 0


def test_a_version_that_the_index_does_not_know_is_read_once(local: Shelf, tmp_path: Path) -> None:
    """One that was interrupted before the index was written, or of an earlier dyeworks that knows none."""
    local.put(**{"a.png": plain(1)})
    local.ingest()
    other = Shelf(FolderStore(tmp_path / "other"))
    other.put(**{"b.png": plain(2)})
    items = other.ingest().items
    foreign = Manifest(dataset=NAME, version="f" * 16, created=datetime.now(UTC), items=items, new=1)
    local.store.write(manifest_key(NAME, foreign.version), render(foreign))
    local.put(**{"b.png": plain(2), "c.png": plain(3)})
    assert local.ingest().new == 1
    assert local.counting.requests[f"read datasets/{NAME}/{foreign.version}"] == 1
    local.ingest()
    assert local.counting.requests[f"read datasets/{NAME}/{foreign.version}"] == 0


def test_an_earlier_version_is_found_again(local: Shelf) -> None:
    local.put(**{"a.png": plain(1)})
    first = local.ingest()
    local.put(**{"b.png": plain(2)})
    local.ingest()
    local.store.delete(f"uploads/{NAME}/b.png")
    assert local.ingest() == first
    assert load_manifest(local.store, NAME) == first


def test_a_picture_that_no_version_had_yet_gets_its_blob(local: Shelf) -> None:
    local.put(**{"a.png": plain(1), "b.png": plain(2), "b.txt": b"\xe0"})
    local.settle()
    assert [item.name for item in local.ingest().items] == ["a.png"]
    assert len(list(local.store.list("blobs/"))) == 1
    local.put(**{"b.txt": b"rings"})
    local.settle()
    manifest = local.ingest()
    assert local.read() == ["b.png", "b.txt"]
    assert len(list(blobs(local.store, NAME, manifest.items))) == 2


def test_blobs_of_no_current_version_are_written_again(local: Shelf) -> None:
    """A sweep may have deleted them, or be about to."""
    local.put(**{"a.png": plain(1), "b.png": plain(2)})
    local.settle()
    local.ingest()
    gone = local.store.read(f"uploads/{NAME}/b.png")
    local.store.delete(f"uploads/{NAME}/b.png")
    local.ingest()
    for key in local.store.list("blobs/"):
        if local.store.read(key) == gone:
            local.store.delete(key)
    local.put(**{"b.png": gone})
    local.settle()
    assert len(list(blobs(local.store, NAME, local.ingest().items))) == 2
    local.store.delete(head_key(NAME))
    local.ingest()
    assert local.read() == ["a.png", "b.png"]
    assert local.requests("write blobs") == 2


def test_a_blob_that_is_gone_is_mended_by_the_same_upload(shelf: Shelf) -> None:
    shelf.put(**{"a.png": plain(1), "b.png": plain(2)})
    shelf.settle()
    manifest = shelf.ingest()
    (first, second) = shelf.store.list("blobs/")
    shelf.store.delete(first)
    time.sleep(1)  # of which servers have the time
    shelf.put(**{"a.png": plain(1), "b.png": plain(2)})
    assert shelf.ingest() == manifest
    assert list(shelf.store.list("blobs/")) == [first, second]
    assert shelf.requests("write blobs") == 1


def test_a_refusal_keeps_its_time(local: Shelf) -> None:
    local.put(**{"a.png": plain(1), "torn.png": b"nothing"})
    local.settle()
    _, (first,) = ingest(local.store, NAME, SPEC)
    _, (second,) = ingest(local.store, NAME, SPEC)
    (key,) = local.store.list("quarantine/")
    assert read_document(local.store, Refusal, key) == first == second


class Interrupted(CountingStore):
    """A store in which something else happens before the first write of a place."""

    def __init__(self, store: Store, place: str, meanwhile: Callable[[], object]) -> None:
        super().__init__(store)
        self.place, self.meanwhile = place, [meanwhile]

    def count(self, method: str, key: str, number: int = 1) -> None:
        super().count(method, key, number)
        if method == "write" and key.startswith(self.place) and self.meanwhile:
            self.meanwhile.pop()()


@pytest.mark.parametrize("place", ["blobs/", f"datasets/{NAME}/", INDEX, head_key(NAME)])
@pytest.mark.parametrize("before", [0, 1])
def test_of_two_ingests_at_once_the_newest_version_has_all(shelf: Shelf, place: str, before: int) -> None:
    if before:
        shelf.put(**{"before.png": plain(9)})
        shelf.ingest()
    shelf.put(**{"a.png": plain(1)})

    def other() -> None:
        shelf.put(**{"b.png": plain(2)})
        ingest(shelf.store, NAME, SPEC)

    notes = list[str]()
    manifest, _ = ingest(Interrupted(shelf.store, place, other), NAME, SPEC, note=notes.append)
    assert load_manifest(shelf.store, NAME) == manifest
    assert {item.name for item in manifest.items} == {"a.png", "b.png"} | ({"before.png"} if before else set())
    assert any("another ingest has ended meanwhile" in line for line in notes)
    assert shelf.ingest() == manifest
    assert len(list(blobs(shelf.store, NAME, manifest.items))) == len(manifest.items)


def test_an_ingest_gives_up_when_others_always_end_first(local: Shelf) -> None:
    local.put(**{"a.png": plain(1)})

    class Busy(FolderStore):
        def swap(self, key: str, data: bytes, version: str | None) -> None:
            raise StoreConflict(key, self.url)

    assert local.root
    with pytest.raises(StoreConflict):
        ingest(Busy(local.root), NAME, SPEC)


def test_many_ingests_at_once_end_with_all_uploads(local: Shelf) -> None:
    local.put(**{"start.png": plain(99)})
    faults = list[BaseException]()

    def work(number: int) -> None:
        try:
            local.put(**{f"{number}.png": plain(number)})
            ingest(local.store, NAME, SPEC)
        except BaseException as error:
            faults.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert faults == []
    assert len(load_manifest(local.store, NAME).items) == 5
    assert len(read_index(local.store, NAME, SPEC).known) == 5


def versions(local: Shelf, count: int, items: tuple[Item, ...]) -> None:
    """Earlier versions, written without a store that waits for the disk."""
    assert local.root
    for number in range(count):
        version = f"{number:016x}"
        manifest = Manifest(dataset=NAME, version=version, created=datetime.now(UTC), items=items, new=0)
        path = local.root / manifest_key(NAME, version)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(render(manifest))


def lay(local: Shelf, numbers: range) -> None:
    assert local.root
    for number in numbers:
        path = local.root / f"uploads/{NAME}/{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(noise(number, 32, 32)))
    local.settle()


def test_ten_new_of_two_thousand_cost_ten_with_ten_versions_or_a_thousand(
    local: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = list[str]()

    def counted(name: str, *rest: object) -> str:
        decoded.append(name)
        return examine(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("tasks.core.data.uploads.examine", counted)
    lay(local, range(2000))
    items = local.ingest().items
    assert len(decoded) == 2000
    costs = []
    for count, start in ((10, 2000), (1000, 2010)):
        versions(local, count, items[:5])
        local.ingest()
        lay(local, range(start, start + 10))
        decoded.clear()
        assert local.ingest().new == 10
        assert sorted(decoded) == [f"{number:05}.png" for number in range(start, start + 10)]
        costs.append(local.requests())
    assert costs[1] <= 1.1 * costs[0]
    assert costs[0] <= 10 * 2 + 20


def test_the_index_is_small(local: Shelf) -> None:
    local.put(**{"a.png": plain(1)})
    local.settle()
    local.ingest()
    index = local.store.read(INDEX)
    assert json.loads(index)["pictures"].keys() == {"a.png"}
    assert len(index) < 600
