"""What every store can do, and what can be done with any of them."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from tasks.core.errors import BadKey

RESERVED = ".dyeworks-"  # names of temporary and lock files start with this, keys never do
CONTROL = frozenset(map(chr, [*range(32), *range(127, 160)]))
MOST_BYTES = 900  # of a key: S3 allows 1024, with the store's own prefix
MOST_NAME_BYTES = 255  # between slashes: that of a file


class Listed(NamedTuple):
    """An object as a listing has it."""

    key: str
    size: int  # bytes
    time: datetime  # when it was last written, in UTC
    tag: str  # opaque, and another one once it is written again; empty: not known


class Store(Protocol):
    """Bytes under keys, with conditional create and compare-and-swap.

    A key that is swapped should be changed by `swap` alone: a plain `write` or `delete` beside it
    isn't serialised with it on a folder. Documents written conditionally carry a unique writer's id:
    on S3, the same bytes found after a refusal are taken for the caller's own write whose reply was lost.
    """

    url: str

    def read(self, key: str) -> bytes:
        """Return the object; raise ObjectMissing."""

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """Return the object and an opaque tag of its version, for `swap`; raise ObjectMissing."""

    def read_within(self, key: str, most: int) -> bytes:
        """Return the object if it has at most `most` bytes, else raise ObjectTooLarge unread; raise ObjectMissing."""

    def write(self, key: str, data: bytes) -> None:
        """Write the object whole, over any other."""

    def create(self, key: str, data: bytes) -> None:
        """Write the object if there is none; raise ObjectExists."""

    def swap(self, key: str, data: bytes, version: str | None) -> None:
        """Replace the version that was read (None: there was nothing); raise StoreConflict."""

    def exists(self, key: str) -> bool:
        """Whether there is an object under the key."""

    def stat(self, key: str) -> Listed:
        """The object as a listing has it; raise ObjectMissing."""

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield every key that starts with the prefix, sorted; 'a/b' covers 'a/bc', 'a/b/' doesn't.

        What others have put there under a bad key is not among them: it can't be read.

        Args:
            after: not a folder; only later keys are listed, and a server is only asked for those. Names at each level
                below the prefix must be of equal length, such as numbers and times: some servers list by folder.
        """

    def scan(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """Yield what `list` does, with sizes and times."""

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names of the folders directly below a prefix that ends with a slash, sorted."""

    def list_odd(self, prefix: str) -> Iterator[str]:
        """Yield what `list` leaves out: bad keys; on a folder also linked and unreadable folders. Not sorted."""

    def delete(self, key: str) -> None:
        """Remove the object, if there is one."""

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove these objects, as far as they are there, with few requests."""

    def purge(self, keys: Iterable[str], earlier: bool = False) -> None:
        """Remove these objects for good, with all that a bucket with versions keeps; with `earlier` only that."""

    def tidy(self, before: datetime) -> int:
        """Remove what interrupted writers have left before this time, and return how many; never an object."""

    def put_file(self, key: str, source: Path | BinaryIO) -> None:
        """Write a file of any size as the object, over any other; one that was interrupted is sent again as a whole.

        Args:
            source: an open file is written from its beginning, and may be closed afterwards.
        """

    def get_file(self, key: str, path: Path) -> None:
        """Write the object, of any size, into a file; raise ObjectMissing."""

    def sha256(self, key: str) -> str:
        """The hash of what is read under the key, in hexadecimal digits; raise ObjectMissing."""


def check_key(key: str) -> None:
    """Raise BadKey unless every store can hold the key, under this very name, and a line of a log can show it."""
    if "\\" in key or not CONTROL.isdisjoint(key):
        raise BadKey(key, "holds a backslash or a control character")
    try:
        if len(key.encode()) > MOST_BYTES:
            raise BadKey(key, f"is longer than {MOST_BYTES} bytes")
    except UnicodeEncodeError as error:
        raise BadKey(key, "is not UTF-8 text") from error
    for segment in key.split("/"):
        if len(segment.encode()) > MOST_NAME_BYTES:
            raise BadKey(key, f"holds a name of more than {MOST_NAME_BYTES} bytes")
        if segment in {"", ".", ".."}:
            raise BadKey(key, f"holds the segment {segment!r}")
        if segment.startswith(RESERVED):
            raise BadKey(key, f"holds a name that starts with {RESERVED!r}, which the store keeps for itself")


def is_key(key: str) -> bool:
    """Whether `check_key` accepts the key."""
    try:
        check_key(key)
    except BadKey:
        return False
    return True


def check_prefix(prefix: str) -> None:
    """Raise BadKey unless the prefix is empty or the beginning of a good key."""
    if prefix:
        check_key(prefix.removesuffix("/"))


def upload_folder(store: Store, folder: Path, prefix: str) -> None:
    """Write every file of the folder under the prefix, in sorted order; other objects there stay."""
    if not folder.is_dir():
        raise NotADirectoryError(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.write(inside(prefix) + path.relative_to(folder).as_posix(), path.read_bytes())


def download_folder(store: Store, prefix: str, folder: Path) -> None:
    """Write every object under the prefix into the folder; other files there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for key in store.list(inside(prefix)):
        target = folder / key.removeprefix(inside(prefix))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.read(key))


def delete_prefix(store: Store, prefix: str) -> int:
    """Remove every object under the prefix for good; returns how many. An empty prefix, the whole store, is refused."""
    check_key(prefix.removesuffix("/"))
    keys = list(store.list(inside(prefix)))
    store.purge(keys)
    return len(keys)


def inside(prefix: str) -> str:
    """The prefix of what lies in it as in a folder."""
    return f"{prefix.removesuffix('/')}/" if prefix else ""
