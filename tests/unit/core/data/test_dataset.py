"""Reading dataset versions over a real folder store."""

import pytest

from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import blobs, load_manifest, manifest_key, newest_version, remarks
from tasks.core.data.ingest import ingest
from tasks.core.errors import DatasetUnusable
from tasks.core.store import FolderStore
from tests.odd_pictures import encoded, noise

NAME = "cloth"


def test_a_manifest_without_notes_and_a_head_without_remarks_are_read(folder: FolderStore) -> None:
    old = b"""{"schema_version": 1, "dataset": "cloth", "version": "v", "created": "2026-01-01T00:00:00Z", "new": 1,
        "items": [{"schema_version": 1, "sha256": "ab", "caption": "rings", "name": "a.png"}]}"""
    folder.write(manifest_key(NAME, "v"), old)
    folder.write(f"datasets/{NAME}/head.json", b'{"schema_version": 1, "version": "v"}')
    assert remarks(folder, load_manifest(folder, NAME)) == []


def test_no_version_is_told_with_what_to_do(folder: FolderStore) -> None:
    with pytest.raises(DatasetUnusable, match="upload pictures to uploads/cloth/ and run ingest-upload"):
        load_manifest(folder, NAME)
    with pytest.raises(DatasetUnusable, match="has no version 0123456789abcdef"):
        load_manifest(folder, NAME, "0123456789abcdef")


def test_a_damaged_blob_is_found(folder: FolderStore) -> None:
    folder.write(f"uploads/{NAME}/a.png", encoded(noise(1)))
    manifest, _ = ingest(folder, NAME, IngestSpec())
    sha = manifest.items[0].sha256
    folder.write(f"blobs/{sha}", encoded(noise(2)))
    with pytest.raises(DatasetUnusable, match=rf"{sha} \(a.png\) is damaged"):
        list(blobs(folder, NAME, manifest.items))


def test_a_damaged_blob_is_mended_as_its_error_says(folder: FolderStore) -> None:
    folder.write(f"uploads/{NAME}/a.png", encoded(noise(1)))
    manifest, _ = ingest(folder, NAME, IngestSpec())
    (key,) = folder.list("blobs/")
    folder.write(key, encoded(noise(2)))
    for advised in (key, f"datasets/{NAME}/index.json"):
        folder.delete(advised)
    assert ingest(folder, NAME, IngestSpec())[0] == manifest
    assert [data for _, data in blobs(folder, NAME, manifest.items)] == [encoded(noise(1))]


def test_the_newest_version_is_that_of_the_last_ingest(folder: FolderStore) -> None:
    assert newest_version(folder, NAME) == ""
    folder.write(f"uploads/{NAME}/a.png", encoded(noise(1)))
    version = ingest(folder, NAME, IngestSpec())[0].version
    assert newest_version(folder, NAME) == version
