"""The index of a dataset: what each upload became, so that an ingest reads only what is new or was changed.

It is a cache: without it, or with one that was made by other limits or other code, all uploads are read. Whoever writes
it last wins, since each entry is true as long as its upload has the same size, time and tag.
"""

import logging
from datetime import datetime

from pydantic import Field

from tasks.core.config.presets import IngestSpec
from tasks.core.config.stored import Stored
from tasks.core.data.caption_tables import READING
from tasks.core.data.dataset import Manifest, Refusal, index_key, manifest_key
from tasks.core.data.parallel import in_order
from tasks.core.data.picture_validation import examination
from tasks.core.errors import DocumentInvalid, ObjectMissing
from tasks.core.store import Listed, Store
from tasks.core.store.documents import Document, digest, read_document

log = logging.getLogger("dyeworks.ingest")


class UploadEntry(Stored):
    """An upload as it was listed before it was read."""

    size: int  # bytes
    time: datetime
    tag: str  # of `Listed`

    def is_of(self, found: Listed) -> bool:
        """Whether the upload is still the one that was read."""
        return (self.size, self.time, self.tag) == (found.size, found.time, found.tag)


class PictureEntry(UploadEntry):
    """A picture that was examined; `reason`: why it is refused."""

    sha256: str
    note: str = ""  # how `decode` changes it
    reason: str = ""


class TextEntry(UploadEntry):
    """A file with the caption of one picture; `fault`: why it cannot be read."""

    text: str = ""
    fault: str = ""


class TableLine(Stored):
    """A line of a table of captions; `fault`: what is wrong with it."""

    place: str
    file_name: str = ""
    text: str = ""
    fault: str = ""


class TableEntry(UploadEntry):
    """A file with the captions of many pictures."""

    lines: tuple[TableLine, ...]


class DatasetIndex(Document):
    """Uploads by their names, and what the versions of the dataset hold."""

    reading: str = ""  # digest of what the entries depend on beside the uploads
    pictures: dict[str, PictureEntry] = Field(default_factory=dict)
    texts: dict[str, TextEntry] = Field(default_factory=dict)
    tables: dict[str, TableEntry] = Field(default_factory=dict)
    others: dict[str, UploadEntry] = Field(default_factory=dict)  # that could not be read, or are of no certain picture
    quarantine: dict[str, Refusal] = Field(default_factory=dict)  # by the picture's hash, as it was written
    versions: tuple[str, ...] = ()  # whose pictures are all among `known`
    known: tuple[str, ...] = ()  # hashes of all pictures of these versions, sorted

    def uploads(self) -> dict[str, UploadEntry]:
        """All uploads that the last ingest has listed and that may be pictures or captions, as it has listed them."""
        return {**self.pictures, **self.texts, **self.tables, **self.others}


def reading_digest(spec: IngestSpec) -> str:
    """Digest of what the entries depend on beside the uploads: limits, code, decoders."""
    return digest(examination(spec), READING)


def read_index(store: Store, dataset: str, spec: IngestSpec) -> DatasetIndex:
    """The index, without the entries that other limits or other code have made; empty where it cannot be read."""
    reading = reading_digest(spec)
    try:
        found = read_document(store, DatasetIndex, index_key(dataset))
    except ObjectMissing:
        return DatasetIndex(reading=reading)
    except DocumentInvalid as error:
        log.warning("all uploads are read again: %s", error)
        return DatasetIndex(reading=reading)
    if found.reading == reading:
        return found
    return DatasetIndex(reading=reading, versions=found.versions, known=found.known)


def write_index(store: Store, dataset: str, index: DatasetIndex) -> None:
    """Write the index, over any other, on as few bytes as possible."""
    store.write(index_key(dataset), index.model_dump_json().encode())


def with_versions(store: Store, dataset: str, index: DatasetIndex) -> DatasetIndex:
    """The index with all versions that there are; only manifests of versions that it lacks are read."""
    there = set(store.folders(f"datasets/{dataset}/"))
    versions, known = there & set(index.versions), set(index.known)

    def read(version: str) -> Manifest | None:
        try:
            return read_document(store, Manifest, manifest_key(dataset, version))
        except ObjectMissing:  # it is just being written, or was deleted
            return None

    for manifest in in_order(read, sorted(there - versions)):
        if manifest:
            versions.add(manifest.version)
            known |= {item.sha256 for item in manifest.items}
    return index.model_copy(update={"versions": tuple(sorted(versions)), "known": tuple(sorted(known))})
