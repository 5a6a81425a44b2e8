"""Uploads that no ingest has seen are found by their listing, on a folder and on a real S3 server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import index_key
from tasks.core.data.differences import UploadDifference, find_difference
from tasks.core.data.ingest import ingest
from tasks.core.errors import DatasetUnusable
from tasks.core.store import FolderStore, Listed, open_store
from tests.counting_store import CountingStore
from tests.odd_pictures import encoded, noise
from tests.unit.core.data.test_index import NAME, Shelf

FILES = {
    "a.png": encoded(noise(1)),
    "a.txt": b"large rings",
    "b.png": encoded(noise(2)),
    "torn.png": b"no picture",
    "metadata.jsonl": b'{"file_name": "b.png", "text": "dots"}\n',
    "README.md": b"about",  # left out by its kind
    ".hidden.png": encoded(noise(3)),
    "Thumbs.db": b"junk",
    "notes.txt": b"of no picture",
    "c.png": encoded(noise(4)),
    "c.jpg": encoded(noise(5), "JPEG"),
    "c.txt": b"of c.png or of c.jpg",  # ambiguous
    "d.txt": b"\xff\xfe\x00",  # of no picture, and no text
    "_READY": b"",
}


@pytest.fixture(params=["folder", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "folder":
        return Shelf(FolderStore(tmp_path / "store"), tmp_path / "store")
    bucket = request.getfixturevalue("bucket")
    return Shelf(open_store(f"s3://{bucket}/{uuid4().hex}"))


def names(found: UploadDifference) -> tuple[set[str], set[str], set[str]]:
    return set(found.new), set(found.changed), set(found.gone)


def test_nothing_differs_after_an_ingest_whatever_it_left_out(shelf: Shelf) -> None:
    shelf.put(**FILES)
    assert names(find_difference(shelf.store, NAME))[0] == FILES.keys() - {
        *("README.md", ".hidden.png", "Thumbs.db", "_READY")
    }
    shelf.settle()
    shelf.ingest()
    counting = CountingStore(shelf.store)
    assert not find_difference(counting, NAME)
    assert not [key for key in counting.requests if "read uploads/" in key], "only the listing"


def test_what_was_added_changed_or_removed_differs(shelf: Shelf) -> None:
    shelf.put(**FILES)
    shelf.settle()
    shelf.ingest()
    shelf.put(**{"new.png": encoded(noise(7)), "a.txt": b"small rings", "LICENSE": b"left out by its kind"})
    shelf.store.delete(f"uploads/{NAME}/torn.png")
    found = find_difference(shelf.store, NAME)
    assert names(found) == ({"new.png"}, {"a.txt"}, {"torn.png"})
    assert str(found) == "1 new, 1 changed, 1 gone"
    assert find_difference(shelf.store, NAME).digest == found.digest
    shelf.put(**{"other.png": encoded(noise(8))})
    assert find_difference(shelf.store, NAME).digest != found.digest
    shelf.settle()
    shelf.ingest()
    assert not find_difference(shelf.store, NAME)


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": b"of no picture"},
        {"torn.png": b"no picture"},
        {"a.png": FILES["a.png"], "metadata.jsonl": b"{damaged"},
        {"a.png": FILES["a.png"]},  # less than is expected
    ],
    ids=["no picture", "none usable", "damaged table", "unmet"],
)
def test_uploads_that_were_tried_and_cannot_be_used_are_no_difference(shelf: Shelf, files: dict[str, bytes]) -> None:
    shelf.put(**files)
    shelf.settle()
    assert find_difference(shelf.store, NAME)
    with pytest.raises(DatasetUnusable):
        ingest(shelf.store, NAME, IngestSpec(min_pictures=2))
    assert not find_difference(shelf.store, NAME)
    shelf.put(**{"a.txt": b"another caption"})
    assert find_difference(shelf.store, NAME), "another upload is another attempt"


def test_uploads_that_are_again_as_before_a_failure_are_ingested_once_more(shelf: Shelf) -> None:
    shelf.put(**{"a.png": FILES["a.png"]})
    shelf.settle()
    first = shelf.ingest()
    shelf.put(**{"metadata.jsonl": b"{damaged"})
    with pytest.raises(DatasetUnusable):
        shelf.ingest()
    shelf.store.delete(f"uploads/{NAME}/metadata.jsonl")
    found = find_difference(shelf.store, NAME)
    assert (bool(found), names(found)) == (True, (set(), set(), set())), "the record of the failure is out of date"
    assert shelf.ingest() == first
    assert not find_difference(shelf.store, NAME)


def test_without_an_index_all_is_new_and_an_empty_dataset_has_no_difference(shelf: Shelf) -> None:
    assert not find_difference(shelf.store, NAME)
    shelf.put(**{"a.png": FILES["a.png"]})
    shelf.settle()
    shelf.ingest()
    for damaged in (b"{", b'{"schema_version": 99}'):
        shelf.store.write(index_key(NAME), damaged)
        assert names(find_difference(shelf.store, NAME)) == ({"a.png"}, set(), set())
    shelf.store.delete(index_key(NAME))
    assert names(find_difference(shelf.store, NAME)) == ({"a.png"}, set(), set())


def test_an_index_of_other_limits_or_code_starts_nothing(shelf: Shelf) -> None:
    shelf.put(**{"a.png": FILES["a.png"]})
    shelf.settle()
    shelf.ingest(IngestSpec(min_side=33))
    assert not find_difference(shelf.store, NAME)


def test_an_upload_that_may_be_written_again_unnoticed_differs_until_it_is_settled(folder: FolderStore) -> None:
    folder.write(f"uploads/{NAME}/a.png", FILES["a.png"])
    ingest(folder, NAME, IngestSpec())
    assert names(find_difference(folder, NAME)) == ({"a.png"}, set(), set())


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def listed(*seconds: float) -> UploadDifference:
    """New uploads of so many seconds ago."""
    found = {
        str(number): Listed(str(number), 1, NOW - timedelta(seconds=age), "t") for number, age in enumerate(seconds)
    }
    return UploadDifference(found, {}, {})


@pytest.mark.parametrize(
    ("ages", "quiet"),
    [
        ((), True),  # something is gone
        ((9.9,), False),
        ((10,), True),
        ((3, 60), False),  # others follow
        ((3, 10_000_000), False),  # a copy that keeps times is under way
        ((-500,), True),  # the clock of who uploads is wrong
        ((-500, 3), False),
    ],
)
def test_a_burst_is_waited_for(ages: tuple[float, ...], quiet: bool) -> None:
    assert listed(*ages).is_quiet(NOW, timedelta(seconds=10)) == quiet
