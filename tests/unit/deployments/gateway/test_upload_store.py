"""What the gateway remembers of the uploads that it wrote, while others write the same names."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import BinaryIO

import pytest

from deployments.gateway.received import ReceivedFile
from deployments.gateway.upload_store import UploadStore
from tasks.core.config.installation import Settings
from tasks.core.installation import Installation
from tasks.core.store import FolderStore, Listed

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


@pytest.fixture
def receive(tmp_path: Path) -> Iterator[Callable[[bytes], ReceivedFile]]:
    with ExitStack() as stack:

        def receive(data: bytes) -> ReceivedFile:
            received = ReceivedFile(tmp_path / "received", 1000)
            stack.callback(received.close)
            received.write(data)
            return received

        yield receive


def uploads(store: FolderStore) -> UploadStore:
    installation = Installation(Settings(), store)
    return UploadStore(lambda: installation)


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
