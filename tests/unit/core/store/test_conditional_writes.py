"""Stores that are tried: those that keep conditions pass, and those that don't are refused, with what they do."""

import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.core.errors import ObjectExists, StoreConflict, StoreUnusable
from tasks.core.store import FolderStore, S3Store, Store, open_store
from tasks.core.store.conditional_writes import require_conditions
from tests.s3_server import connect, refusing

pytestmark = pytest.mark.any_key


@pytest.fixture
def url(bucket: str) -> str:
    """A new prefix on the server."""
    return f"s3://{bucket}/{uuid4().hex}"


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return FolderStore(tmp_path) if request.param == "folder" else open_store(request.getfixturevalue("url"))


def test_a_store_that_keeps_conditions_passes_and_nothing_is_left(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    require_conditions(store)
    assert list(store.list("")) == []
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("probe")]
    assert not [record for record in caplog.records if "urllib3" in record.name], "each writer has a connection"


class Hasty(FolderStore):
    """Checks the condition of some writes, and writes later: right for one writer, wrong for many at once."""

    def __init__(self, root: Path, hasty: set[str]) -> None:
        super().__init__(root)
        self.hasty = hasty

    def create(self, key: str, data: bytes) -> None:
        if "create" not in self.hasty:
            return super().create(key, data)
        if self.exists(key):
            raise ObjectExists(key, self.url)
        return self.write_later(key, data)

    def swap(self, key: str, data: bytes, version: str | None) -> None:
        if "swap" not in self.hasty:
            return super().swap(key, data, version)
        if self.read_versioned(key)[1] != version:
            raise StoreConflict(key, self.url)
        return self.write_later(key, data)

    def write_later(self, key: str, data: bytes) -> None:
        time.sleep(0.2)  # others check meanwhile
        self.write(key, data)


CREATED = r"when 16 at once created one object with If-None-Match, \d+ succeeded"
SWAPPED = r"when 16 at once swapped one with If-Match, \d+ succeeded"


@pytest.mark.parametrize(
    ("hasty", "faults"),
    [({"create"}, [CREATED]), ({"swap"}, [SWAPPED]), ({"create", "swap"}, [CREATED, SWAPPED])],
    ids=["create", "swap", "both"],
)
def test_a_store_that_fails_only_when_many_write_at_once_is_refused(
    tmp_path: Path, hasty: set[str], faults: list[str]
) -> None:
    store = Hasty(tmp_path, hasty)
    told = ", ".join(f"it keeps them for one writer after another, but {fault}" for fault in faults)
    for _ in range(2):  # it is not taken for tried
        with pytest.raises(StoreUnusable, match=rf"cannot be relied on \({told}\): take a store that keeps them"):
            require_conditions(store)
    assert list(store.list("")) == []


def test_a_store_that_may_not_be_written_is_refused(url: str) -> None:
    client = refusing(refusing(connect(), "PutObject", "AccessDenied", 403), "DeleteObject", "AccessDenied", 403)
    with pytest.raises(StoreUnusable, match="may not be written"):
        require_conditions(S3Store(url, client))


def test_a_store_without_conditional_writes_is_refused(url: str) -> None:
    with pytest.raises(StoreUnusable, match="knows no conditional writes"):
        require_conditions(S3Store(url, refusing(connect(), "PutObject", "NotImplemented", 501)))


def test_a_store_is_tried_once(tmp_path: Path) -> None:
    require_conditions(FolderStore(tmp_path))
    require_conditions(Hasty(tmp_path, {"create", "swap"}))  # would be refused, but has the URL of the other
