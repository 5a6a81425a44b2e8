"""What the gateway remembers of the uploads that it wrote, while others write the same names."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import BinaryIO
from unittest.mock import Mock
from uuid import uuid4

import pytest

from deployments.gateway import upload_store
from deployments.gateway.received import ReceivedFile
from deployments.gateway.upload_store import UploadStore
from tasks.core.config.installation import Settings
from tasks.core.installation import Installation
from tasks.core.store import FolderStore, Listed, S3Store, Store
from tests.s3_server import connect

KEY = "uploads/adire/a.png"


class BusyStore(FolderStore):
    """A folder in which something else happens after each file that is put."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.after: list[Callable[[], object]] = []

    def put_file(self, key: str, source: Path | BinaryIO) -> None:
        super().put_file(key, source)
        if self.after:
            self.after.pop()()


class TaggedStore(BusyStore):
    """One whose tags are MD5, as those of most object stores."""

    def stat(self, key: str) -> Listed:
        return super().stat(key)._replace(tag=hashlib.md5(self.read(key)).hexdigest())


NAMES = ["-a/b", ".b", "a-/b", "a.d/c", "ab/c", "b (1).png", "b.png", "b/c (2)/d", "b/c/d", "b/c0", "b0/-a/c"]
NAMES += ["b0/a", "c!/d", "c.x", "c/d.e", "c/d/e", "c0", "ä.b", "ä/b"]


@pytest.fixture
def receive(tmp_path: Path) -> Iterator[Callable[[bytes], ReceivedFile]]:
    with ExitStack() as stack:

        def receive(data: bytes) -> ReceivedFile:
            received = ReceivedFile(tmp_path / "received", 1000)
            stack.callback(received.close)
            received.write(data)
            return received

        yield receive


def uploads(store: Store) -> UploadStore:
    installation = Installation(Settings(), store)
    return UploadStore(lambda: installation)


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_pages_of_any_names_miss_none(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = request.getfixturevalue("bucket") if kind == "s3" else ""
    store = S3Store(f"s3://{bucket}/{uuid4().hex}", connect()) if bucket else FolderStore(tmp_path / "store")
    for name in NAMES:
        store.write(f"uploads/adire/{name}", b"")
    monkeypatch.setattr(upload_store, "PAGE", 1)
    kept, after, found = uploads(store), "", list[str]()
    while not found or after:
        page = kept.page("adire", after)
        found += [file.name for file in page.files]
        after = page.next
    assert found == sorted(NAMES)


def test_a_page_asks_the_store_for_what_comes_after(tmp_path: Path) -> None:
    store = Mock(wraps=FolderStore(tmp_path / "store"))
    kept = uploads(store)
    begins = {"img_0010.png": "img_001.", "b/a b/c": "", "b/c": "b/c", "": "", "b/-a": "", ".b": "", "..": ""}
    for after, begin in begins.items():
        kept.page("adire", after)
        assert store.scan.call_args.args[1].removeprefix("uploads/adire/") == begin, after


def test_files_of_one_size_that_come_at_once_are_listed_as_they_are(
    tmp_path: Path, receive: Callable[[bytes], ReceivedFile]
) -> None:
    store = BusyStore(tmp_path / "store")
    kept = uploads(store)
    other = Thread(target=kept.keep, args=("adire", "a.png", receive(b"two")))

    def meanwhile() -> None:
        other.start()
        other.join(0.5)  # it waits for the first one

    store.after = [meanwhile]
    kept.keep("adire", "a.png", receive(b"one"))
    other.join()
    (listed,) = kept.page("adire", "").files
    assert listed.sha256 == hashlib.sha256(store.read(KEY)).hexdigest()


def test_a_hash_is_not_remembered_of_what_another_process_has_overwritten(
    tmp_path: Path, receive: Callable[[bytes], ReceivedFile]
) -> None:
    for data in (b"two", b"three"):
        store = TaggedStore(tmp_path / data.decode())
        kept = uploads(store)
        store.after = [lambda store=store, data=data: store.write(KEY, data)]  # type: ignore[misc]
        kept.keep("adire", "a.png", receive(b"one"))
        assert kept.digests.get(store.stat(KEY)) == ""
        kept.keep("adire", "a.png", receive(b"one"))
        assert kept.digests.get(store.stat(KEY)) == hashlib.sha256(b"one").hexdigest()
