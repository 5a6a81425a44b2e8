"""A store in a local folder, for the processes of one host."""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import BinaryIO, Literal
from uuid import uuid4

from tasks.core.errors import (
    ObjectExists,
    ObjectMissing,
    ObjectTooLarge,
    ObjectUnreadable,
    StoreConflict,
    StoreUnusable,
)
from tasks.core.store.base import RESERVED, Listed, check_key, check_prefix, inside, is_key

TRIES = 20  # to write into a folder that is removed as an empty one
UNREADABLE = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO}  # of one file: no rights, a link round, a socket


class FolderStore:
    """A file for each object. As on any disk, 'a' and 'a/b' can't both be objects.

    Its folder is created only when the store is opened, and not even then without `create`: if it is gone, such as an
    unmounted disk, reading and writing raise StoreUnusable.
    """

    def __init__(self, root: Path, create: bool = True) -> None:
        self._root = root.expanduser().absolute()
        self.url = self._root.as_uri()
        if create:
            self._create()

    def _create(self) -> None:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._root).close()
        except OSError as error:
            raise StoreUnusable(self.url, str(error)) from error

    def read(self, key: str) -> bytes:
        """Return the object; raise ObjectMissing."""
        with self._open(key) as file:
            return file.read()

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """Return the object and its sha256."""
        data = self.read(key)
        return data, hashlib.sha256(data).hexdigest()

    def read_within(self, key: str, most: int) -> bytes:
        """Return the object if it has at most so many bytes; raise ObjectTooLarge or ObjectMissing."""
        with self._open(key) as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise ObjectTooLarge(key, self.url, size, most)
            return file.read()

    def write(self, key: str, data: bytes) -> None:
        """Write the object whole, over any other."""
        self._replace(key, lambda file: file.write(data))

    def create(self, key: str, data: bytes) -> None:
        """Write the object if there is none: a hard link never replaces a file."""
        path = self._place(key)
        with _temporary(path.parent, lambda file: file.write(data)) as temporary:
            try:
                path.hardlink_to(temporary)
            except FileExistsError as error:
                raise ObjectExists(key, self.url) from error
        _sync(path.parent)

    def swap(self, key: str, data: bytes, version: str | None) -> None:
        """Replace the version that was read, under a lock that every swap of the key takes."""
        if version is None:
            self._create_or_conflict(key, data)
            return
        with _locked(self._place(key)):
            if self._version(key) != version:
                raise StoreConflict(key, self.url)
            self.write(key, data)

    def exists(self, key: str) -> bool:
        """Whether there is an object under the key."""
        return self._place(key).is_file()

    def stat(self, key: str) -> Listed:
        """The object as a listing has it; raise ObjectMissing."""
        path = self._place(key)
        if not path.is_file():
            raise ObjectMissing(key, self.url)
        return _listed(key, path)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield every key that starts with the prefix, sorted."""
        check_prefix(prefix)
        self._require()
        return iter(sorted(key for key, plain in self._found(prefix, after) if plain and key > after))

    def scan(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """Yield every key that starts with the prefix, sorted; the tag is of a file's number, time and size."""
        return (_listed(key, self._root / key) for key in self.list(prefix, after))

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names of the folders in a folder, sorted, also of those without a file."""
        check_prefix(prefix)
        self._require()
        folder = self._root / prefix
        found = (path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ()
        return iter(sorted(name for name in found if is_key(prefix + name)))

    def list_odd(self, prefix: str) -> Iterator[str]:
        """Yield bad keys, linked folders and folders that can't be read; its own files aren't among them."""
        check_prefix(prefix)
        self._require()
        return (key for key, plain in self._found(prefix) if not plain)

    def delete(self, key: str) -> None:
        """Remove the object, if there is one; its folder stays."""
        if self.exists(key):
            self._path(key).unlink(missing_ok=True)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove these objects."""
        for key in keys:
            self.delete(key)

    def purge(self, keys: Iterable[str], earlier: bool = False) -> None:
        """Remove these objects: a folder keeps no earlier versions."""
        self.delete_many(() if earlier else keys)

    def tidy(self, before: datetime) -> int:
        """Remove temporary files and empty folders of before this time."""
        count = 0
        for folder, _, names in os.walk(self._root, topdown=False):
            left = (Path(folder, name) for name in names if name.startswith(RESERVED) and name.endswith(".tmp"))
            count += sum(_remove_old(path, before) for path in left)
            if Path(folder) != self._root:
                _remove_empty(Path(folder), before)
        return count

    def put_file(self, key: str, source: Path | BinaryIO) -> None:
        """Write a file as the object, over any other."""
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as whole:
            whole.seek(0)
            self._replace(key, lambda file: shutil.copyfileobj(whole, file))

    def get_file(self, key: str, path: Path) -> None:
        """Write the object into a file; raise ObjectMissing."""
        with self._open(key) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)

    def sha256(self, key: str) -> str:
        """The hash of the object; raise ObjectMissing."""
        with self._open(key) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _open(self, key: str) -> BufferedReader:
        try:
            return open(self._path(key), "rb", opener=_open_at_once)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            self._require()
            raise ObjectMissing(key, self.url) from error
        except OSError as error:
            if error.errno not in UNREADABLE:
                raise
            raise ObjectUnreadable(key, self.url, error.strerror or str(error)) from error

    def _require(self) -> None:
        if not self._root.is_dir():
            raise StoreUnusable(self.url, "its folder is gone")

    def _replace(self, key: str, write: Callable[[BinaryIO], object]) -> None:
        path = self._place(key)
        with _temporary(path.parent, write) as temporary:
            temporary.replace(path)
        _sync(path.parent)

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    def _place(self, key: str) -> Path:
        """The path of an object in a folder that is there."""
        self._require()
        return self._path(key)

    def _found(self, prefix: str, after: str = "") -> Iterator[tuple[str, bool]]:
        """What starts with the prefix, and whether it can be read as an object; folders of before are left out."""
        folder = inside(prefix.rpartition("/")[0])

        def is_before(name: str) -> bool:
            return (key := f"{folder}{name}/") < after and not after.startswith(key)

        for name, plain in walk(self._root / folder, is_before):
            own = name.rpartition("/")[2].startswith(RESERVED) and name.endswith((".tmp", ".lock"))
            if (key := folder + name).startswith(prefix) and not own:
                yield key, plain and is_key(key)

    def _version(self, key: str) -> str | None:
        try:
            return self.read_versioned(key)[1]
        except ObjectMissing:
            return None

    def _create_or_conflict(self, key: str, data: bytes) -> None:
        try:
            self.create(key, data)
        except ObjectExists as error:
            raise StoreConflict(key, self.url) from error


def walk(folder: Path, unwanted: Callable[[str], bool] = lambda _: False) -> Iterator[tuple[str, bool]]:
    """Every file below the folder by its relative name, and whether it is one that can be opened by that name.

    Folders whose relative names are unwanted are not entered.

    Links to files are followed, those to folders are not: they are yielded, as False, as is a folder that can't be
    read. A broken link is yielded as True, since a missing target is not the same as a missing object.
    """
    refused: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=refused.append):
        relative = Path(place).relative_to(folder)
        yield from (((relative / name).as_posix(), True) for name in names)
        yield from (((relative / name).as_posix(), False) for name in folders if (Path(place) / name).is_symlink())
        folders[:] = [name for name in folders if not unwanted((relative / name).as_posix())]
    for error in refused:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            yield Path(error.filename).relative_to(folder).as_posix(), False


def _listed(key: str, path: Path) -> Listed:
    """An entry of a listing; one without a size and a tag for a broken link, and a file that is gone."""
    try:
        found = path.stat()
    except OSError:
        return Listed(key, 0, datetime.fromtimestamp(0, UTC), "")
    tag = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
    return Listed(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC), tag)


def _remove_old(path: Path, before: datetime) -> bool:
    """Remove a file that was last written before a time; returns whether it was."""
    with suppress(FileNotFoundError):
        if path.stat().st_mtime < before.timestamp():
            path.unlink()
            return True
    return False


def _remove_empty(folder: Path, before: datetime) -> None:
    """Remove a folder without files; a writer that has just found it there makes it again."""
    with suppress(OSError):  # it is not empty, or gone
        if folder.stat().st_mtime < before.timestamp():
            folder.rmdir()


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a named pipe too, which would else wait for a writer, and is empty."""
    return os.open(path, flags | os.O_NONBLOCK)


@contextmanager
def _temporary(folder: Path, write: Callable[[BinaryIO], object]) -> Iterator[Path]:
    """Keep what is written on disk in a hidden file of the folder; afterwards it is gone, unless it was renamed."""
    path = folder / f"{RESERVED}{uuid4().hex}.tmp"
    try:
        with _opened(path, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def _opened(path: Path, mode: Literal["xb", "ab"]) -> BufferedWriter:
    """A file in a folder that is made, and that `tidy` may remove as an empty one until the file is there."""
    for _ in range(TRIES):
        with suppress(FileNotFoundError):
            _make_folder(path.parent)
            return path.open(mode)
    raise StoreUnusable(path.parent.as_uri(), "its folder is removed again and again")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file beside the path. It is never removed: a lock on a removed file locks nobody out."""
    name = hashlib.sha256(path.name.encode()).hexdigest()[:32]
    with _opened(path.parent / f"{RESERVED}{name}.lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Put the names in the folder on disk: a rename is only lasting after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
