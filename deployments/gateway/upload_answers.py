"""What the gateway answers to uploads."""

from typing import Literal

from pydantic import BaseModel


class UploadAnswer(BaseModel):
    """What became of a file."""

    dataset: str
    name: str
    status: Literal["stored", "unchanged", "ready"]
    size: int = 0
    sha256: str = ""


class LeftOutEntry(BaseModel):
    """An entry of an archive that an ingest would not take."""

    name: str
    reason: str


class ArchiveAnswer(BaseModel):
    """What became of the entries of an archive."""

    dataset: str
    stored: list[str] = []
    unchanged: list[str] = []
    left_out: list[LeftOutEntry] = []


class DatasetsAnswer(BaseModel):
    """The datasets to which a key may upload, and the sizes that are taken."""

    datasets: list[str]
    most_bytes: int
    most_archive_bytes: int


class ListedUpload(BaseModel):
    """A file of a dataset: one of the two hashes is there, unless the file cannot be read."""

    name: str
    size: int
    sha256: str = ""
    md5: str = ""


class UploadPage(BaseModel):
    """A part of a dataset's files, by name; `next` is what to ask for `after`, empty on the last page."""

    dataset: str
    files: list[ListedUpload]
    next: str = ""
