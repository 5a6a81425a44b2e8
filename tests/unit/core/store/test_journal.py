"""A journal: the requests of reading it do not grow, and its snapshot is never trusted more than its documents."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import DocumentNewer
from tasks.core.store import FolderStore
from tasks.core.store.documents import Document
from tasks.core.store.journal import EVERY, Journal
from tests.counting_store import CountingStore

pytestmark = pytest.mark.any_key


class Note(Document):
    """A document."""

    text: str


def journal(place: Path) -> Journal[Note]:
    """As another process opens it."""
    return Journal(FolderStore(place), "notes/", Note)


def fill(place: Path, count: int) -> list[Note]:
    notes = [Note(text=f"note {number}") for number in range(1, count + 1)]
    writer = journal(place)
    assert all(writer.append(number, note) for number, note in enumerate(notes, 1))
    return notes


def requests(place: Path) -> int:
    """Those of a process that reads the whole journal for the first time."""
    store = CountingStore(FolderStore(place))
    Journal(store, "notes/", Note).read()
    return store.requests.total()


@pytest.mark.parametrize("count", [0, 1, EVERY - 1, EVERY, EVERY + 1, 3 * EVERY + 2])
def test_all_is_read(tmp_path: Path, count: int) -> None:
    notes = fill(tmp_path, count)
    assert journal(tmp_path).read() == notes
    assert journal(tmp_path).newest() == (notes[-1] if notes else None)


def test_requests_do_not_grow(tmp_path: Path) -> None:
    for name, count in (("few", EVERY), ("many", 100 * EVERY)):
        fill(tmp_path / name, count)
    assert requests(tmp_path / "few") == requests(tmp_path / "many") == 2


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    fill(tmp_path, 25)
    store = CountingStore(FolderStore(tmp_path))
    reader = Journal(store, "notes/", Note)
    reader.read()
    store.requests.clear()
    journal(tmp_path).append(26, Note(text="later"))
    assert [note.text for note in reader.read()[-2:]] == ["note 25", "later"]
    assert store.requests.total() == 2  # a listing, and the new one


def damage(place: Path) -> None:
    (place / "notes" / "snapshot").write_bytes(b"{")


def outdate(place: Path) -> None:
    fresh = place.with_name("older")
    fill(fresh, EVERY)
    (place / "notes" / "snapshot").write_bytes((fresh / "notes" / "snapshot").read_bytes())


def remove(place: Path) -> None:
    (place / "notes" / "snapshot").unlink()


@pytest.mark.parametrize("harm", [damage, outdate, remove])
def test_a_snapshot_that_is_damaged_old_or_gone(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    notes = fill(tmp_path / "a", 3 * EVERY - 1)
    harm(tmp_path / "a")
    assert journal(tmp_path / "a").read() == notes
    last = Note(text="last")
    assert journal(tmp_path / "a").append(3 * EVERY, last)
    assert requests(tmp_path / "a") == 2
    assert journal(tmp_path / "a").read() == [*notes, last]


def test_there_is_no_snapshot_of_a_journal_with_a_gap(tmp_path: Path) -> None:
    fill(tmp_path, EVERY - 1)
    (tmp_path / "notes" / "000004.json").unlink()
    journal(tmp_path).append(EVERY, Note(text="last"))
    assert not (tmp_path / "notes" / "snapshot").exists()
    assert len(journal(tmp_path).read()) == EVERY - 1


def test_fields_of_a_later_version_stay(tmp_path: Path) -> None:
    fill(tmp_path, EVERY - 1)
    (tmp_path / "notes" / "000003.json").write_text('{"text": "of 0.3", "later": 1, "schema_version": 1}')
    journal(tmp_path).append(EVERY, Note(text="last"))
    assert '\\"later\\": 1' in (tmp_path / "notes" / "snapshot").read_text()


def test_a_later_version_is_refused_by_its_own_key(tmp_path: Path) -> None:
    fill(tmp_path, EVERY - 1)
    (tmp_path / "notes" / "000003.json").write_text('{"text": "of 2.0", "schema_version": 2}')
    journal(tmp_path).append(EVERY, Note(text="last"))
    with pytest.raises(DocumentNewer, match=r"notes/000003\.json"):
        journal(tmp_path).read()
