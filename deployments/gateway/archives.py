"""Zip archives of uploads: checked by their central directory before anything is inflated, then read entry by entry.

A name is refused that leaves the archive's folder or occurs twice; an archive is refused that is encrypted, overlaps
itself, holds another archive or inflates to more than the limits.
"""

import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from tasks.core.data.file_kinds import is_ready, reason_left_out
from tasks.core.errors import DyeworksError
from tasks.core.store import is_key

ENTRIES = 10_000  # files in an archive
DIRECTORY_BYTES = 4 * 2**20  # that are read at once: the central directory is, before it is known to be one
INFLATED_BYTES = 4 * 2**30  # of all entries
RATIO, RATIO_BYTES = 100, 2**20  # inflated to compressed bytes of an entry larger than that; a picture's is about 1
CHUNK_BYTES = 2**20
HEADER_BYTES = 30  # of an entry, before its name
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # others may need gigabytes to inflate a few bytes
ENCRYPTED, UTF8 = 0x1 | 0x40, 0x800  # flags
ARCHIVES = (".zip", ".zipx", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".jar")
DAMAGES = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    EOFError,
    OSError,  # a seek to before the beginning
)


class ArchiveRefused(DyeworksError):
    """A zip archive that is damaged or dangerous; `name` is that of the entry, if it is one's fault."""

    def __init__(self, problem: str, name: str = "") -> None:
        where = f": entry {name[:200]!r}" if name else ""
        super().__init__(f"the archive is refused{where}: {problem}")
        self.problem, self.name = problem, name


@dataclass(frozen=True)
class ArchiveEntry:
    """A file of an archive; `left_out`: why an ingest would leave it out."""

    name: str
    size: int  # bytes
    info: zipfile.ZipInfo
    left_out: str = ""


class UploadArchive:
    """An archive whose entries are safe to be read one after another."""

    def __init__(self, file: BinaryIO, entry_bytes: int, folder: str = "") -> None:
        """Check the whole central directory.

        Args:
            file: must stay open.
            entry_bytes: the most that one entry may have.
            folder: where the names have to be good keys, such as `uploads/adire/`.

        Raises:
            ArchiveRefused: it is no archive, damaged, or dangerous.
        """
        self.entry_bytes, self.folder = entry_bytes, folder
        try:
            self._zip = zipfile.ZipFile(_Bounded(file))
        except DAMAGES as error:
            raise ArchiveRefused(f"it is not a whole zip file ({error})") from error
        infos = [info for info in self._zip.infolist() if not info.filename.endswith("/")]
        self._check(infos)
        self.entries = tuple(self._checked(info) for info in infos)
        self._check_names()

    def chunks(self, entry: ArchiveEntry) -> Iterator[bytes]:
        """The content of an entry; raises ArchiveRefused, at its end at the latest, if it is damaged."""
        left = entry.size
        try:
            with self._zip.open(entry.info) as content:
                while chunk := content.read(CHUNK_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        break
                    yield chunk
        except DAMAGES as error:
            raise ArchiveRefused(f"it is damaged ({error})", entry.name) from error
        if left:
            raise ArchiveRefused(f"it is damaged (it does not have {entry.size} bytes)", entry.name)

    def _check(self, infos: list[zipfile.ZipInfo]) -> None:
        if len(infos) > ENTRIES:
            raise ArchiveRefused(f"it has {len(infos)} files, more than {ENTRIES}")
        total = sum(info.file_size for info in infos)
        if total > INFLATED_BYTES:
            raise ArchiveRefused(f"it inflates to {total} bytes, more than {INFLATED_BYTES}")
        end = self._zip.start_dir
        for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
            if info.header_offset + HEADER_BYTES + info.compress_size > end:
                raise ArchiveRefused("it overlaps another one", info.filename)
            end = info.header_offset

    def _checked(self, info: zipfile.ZipInfo) -> ArchiveEntry:
        name = _name(info)
        problem = self._problem(name, info)
        if problem:
            raise ArchiveRefused(problem, name)
        return ArchiveEntry(name, info.file_size, info, self._left_out(name))

    def _left_out(self, name: str) -> str:
        if not is_key(self.folder + name):
            return "no store can hold its name"
        return "" if is_ready(name) else reason_left_out(name)

    def _problem(self, name: str, info: zipfile.ZipInfo) -> str:
        problems = {
            "it is encrypted": info.flag_bits & ENCRYPTED,
            "it is a symbolic link": stat.S_ISLNK(info.external_attr >> 16),
            "its name is not a relative path": "\0" in info.orig_filename or _leaves(name),
            "it is an archive itself": PurePosixPath(name).suffix.lower() in ARCHIVES,
            "it is neither stored nor deflated": info.compress_type not in METHODS,
            f"it inflates to {info.file_size} bytes, more than {self.entry_bytes}": info.file_size > self.entry_bytes,
            f"it inflates to more than {RATIO} times its size": (
                info.file_size > max(RATIO_BYTES, RATIO * info.compress_size)
            ),
        }
        return next((problem for problem, found in problems.items() if found), "")

    def _check_names(self) -> None:
        names = Counter(entry.name for entry in self.entries)
        folders = {str(folder) for name in names for folder in PurePosixPath(name).parents}
        for name, count in names.items():
            if count > 1 or name in folders:
                raise ArchiveRefused("its name occurs twice", name)


class _Bounded:
    """A file of which no more than a central directory may be read at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._end = file, file.seek(0, 2)
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._end - self.tell())
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > DIRECTORY_BYTES:
            raise ArchiveRefused(f"its directory has {wanted} bytes, more than {DIRECTORY_BYTES}")
        return self._file.read(wanted)


def _leaves(name: str) -> bool:
    """Whether a name leads out of the folder of its archive, on any system."""
    plain = name.replace("\\", "/")
    return plain.startswith("/") or name[1:2] == ":" or ".." in plain.split("/")


def _name(info: zipfile.ZipInfo) -> str:
    """The name of an entry; many programs write UTF-8 without the flag that says so, and some a `./` before it."""
    name = info.filename
    if not info.flag_bits & UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    while name.startswith("./"):
        name = name.removeprefix("./")
    return name
