"""The files of a folder or a zip archive that are worth uploading, and remarks on the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deployments.gateway.archives import ArchiveEntry, UploadArchive
from deployments.upload_client import LocalFile
from tasks.core.data.file_kinds import Uploads, sort_uploads
from tasks.core.data.remarks import remark
from tasks.core.errors import DyeworksError
from tasks.core.store import is_key, walk

CHUNK_BYTES = 2**16
LARGEST = 2**40  # bytes of an archive's entry; the gateway has its own limit


class NothingToUpload(DyeworksError):
    """A folder or an archive holds nothing that an ingest would take."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} holds no pictures or captions that an ingest would take")
        self.path = path


@dataclass(frozen=True)
class FolderFile:
    """A file on this machine."""

    name: str
    path: Path

    @property
    def size(self) -> int:
        """In bytes."""
        return self.path.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        """The content."""
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


@dataclass(frozen=True)
class ArchivedFile:
    """A file in a zip archive on this machine."""

    archive: UploadArchive
    entry: ArchiveEntry

    @property
    def name(self) -> str:
        """Its name in the archive."""
        return self.entry.name

    @property
    def size(self) -> int:
        """In bytes."""
        return self.entry.size

    def chunks(self) -> Iterator[bytes]:
        """The content; raises ArchiveRefused."""
        return self.archive.chunks(self.entry)


@contextmanager
def local_files(path: Path) -> Iterator[tuple[list[LocalFile], list[str]]]:
    """The files in the order of sending, and a line on each kind that is left out.

    Raises:
        ArchiveRefused: the archive is damaged or dangerous.
    """
    if path.is_dir():
        names = list(walk(path))
        files = [FolderFile(name, path / name) for name, plain in names if plain and (path / name).is_file()]
        gone = [name for name, plain in names if plain and not (path / name).is_file()]
        links = [name for name, plain in names if not plain]
        yield _chosen(files, links, remark(gone, "file", "left out that cannot be read"))
    else:
        with path.open("rb") as file:
            archive = UploadArchive(file, LARGEST)
            yield _chosen([ArchivedFile(archive, entry) for entry in archive.entries], [], [])


def in_sending_order(uploads: Uploads) -> list[str]:
    """A caption before its picture, and tables after the first picture: an ingest may start while others follow.

    A table that names no picture would end it.
    """
    names = sorted([*uploads.texts, *uploads.pictures], key=lambda name: (_stem(name), name in uploads.pictures))
    first = next((place + 1 for place, name in enumerate(names) if name in uploads.pictures), 0)
    return [*names[:first], *uploads.tables, *names[first:]]


def _chosen(
    files: list[FolderFile] | list[ArchivedFile], odd: list[str], remarks: list[str]
) -> tuple[list[LocalFile], list[str]]:
    found: dict[str, LocalFile] = {file.name: file for file in files if is_key(file.name)}
    uploads = sort_uploads(found, [*odd, *(file.name for file in files if not is_key(file.name))])
    return [found[name] for name in in_sending_order(uploads)], [*remarks, *uploads.remarks]


def _stem(name: str) -> str:
    """What the name of a picture and those of its captions have in common: `a.png.txt`, `a.txt` and `a.png`."""
    while suffix := PurePosixPath(name).suffix:
        name = name.removesuffix(suffix)
    return name
