"""The identity of a store: created once, and a store of another layout is refused with what to do."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.core.errors import DocumentInvalid
from tasks.core.installation import open_installation
from tasks.core.registry.models import apply_config
from tasks.core.registry.store_layout import EARLIER, KEY, LAYOUT, StoreLayoutUnreadable, store_identity
from tasks.core.store import FolderStore, S3Store, open_store
from tests.adire import adire


def test_an_empty_store_gets_an_identity_once(folder: FolderStore) -> None:
    first = store_identity(folder)
    assert (first.layout, len(first.id)) == (LAYOUT, 32)
    open_installation()
    assert store_identity(folder) == first
    assert list(folder.list("")) == [KEY]


@pytest.mark.any_key
def test_a_store_of_this_layout_gets_one_too(folder: FolderStore) -> None:
    apply_config(folder, adire())
    folder.write("uploads/adire/a.png", b"")
    folder.write("prompts/adire/a.jsonl", b"")
    assert store_identity(folder).layout == LAYOUT


def test_every_process_that_opens_a_new_store_gets_the_same_identity(folder: FolderStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: store_identity(open_store(folder.url)).id, range(16)))
    assert len(set(found)) == 1


def test_a_bucket_gets_one_for_each_prefix(bucket: str) -> None:
    one, other = (store_identity(S3Store(f"s3://{bucket}/{prefix}")) for prefix in ("one", "other"))
    assert one.id != other.id
    assert store_identity(S3Store(f"s3://{bucket}/one")) == one


@pytest.mark.any_key
@pytest.mark.parametrize("place", EARLIER)
def test_a_store_of_the_first_layout_is_refused(folder: FolderStore, place: str) -> None:
    folder.write(f"{place}adire/a.json", b"{}")
    with pytest.raises(StoreLayoutUnreadable) as caught:
        open_installation()
    told = f"store {folder.url} was written by dyeworks before 0.2.0 (it has {place}adire/a.json), whose layout this"
    advice = "take an empty store, its uploads/ and prompts/ can be copied into it, or stay with that version"
    assert str(caught.value) == f"{told} version does not read: {advice}"
    assert not folder.exists(KEY)


def test_a_store_of_a_later_version_is_refused(folder: FolderStore) -> None:
    folder.write(KEY, b'{"layout": 3, "id": "a", "created": "2030-01-01T00:00:00Z", "more": [1]}')
    later = r"was written by a later version of dyeworks \(layout 3, not 2\): update dyeworks"
    with pytest.raises(StoreLayoutUnreadable, match=later):
        open_installation()


def test_fields_of_a_later_version_are_ignored(folder: FolderStore) -> None:
    folder.write(KEY, b'{"layout": 2, "id": "a", "created": "2030-01-01T00:00:00Z", "more": [1]}')
    assert store_identity(folder).id == "a"


@pytest.mark.parametrize("data", [b"", b"{}", b'{"layout": 2, "created": "2030-01-01T00:00:00Z"}'])
def test_a_damaged_document_is_named(folder: FolderStore, data: bytes) -> None:
    folder.write(KEY, data)
    with pytest.raises(DocumentInvalid, match=r"'installation\.json'"):
        store_identity(folder)
