"""Captions beside the pictures: .txt files, and the lines of a metadata.jsonl."""

import json

import pytest

from tasks.core.data.dataset import ingest, remarks
from tasks.core.errors import CaptionsUnusable, DatasetUnusable
from tasks.core.specs import IngestSpec
from tasks.core.store import FolderStore
from tests.odd_pictures import encoded, noise

SPEC = IngestSpec(instance_prompt="cloth")
NAME = "cloth"


def lines(*told: tuple[str, str]) -> bytes:
    return "".join(json.dumps({"file_name": name, "text": text, "year": 2026}) + "\n" for name, text in told).encode()


def upload(store: FolderStore, **files: bytes) -> None:
    for name, data in files.items():
        store.write(f"uploads/{NAME}/{name}", data)


def pictures(store: FolderStore, *names: str) -> None:
    for i, name in enumerate(names):
        upload(store, **{name: encoded(noise(i))})


def captions(store: FolderStore) -> dict[str, str]:
    return {item.name: item.caption for item in ingest(store, NAME, SPEC)[0].items}


def test_lines_of_a_metadata_file_are_captions(folder: FolderStore) -> None:
    pictures(folder, "a.png", "b.png", "c.png", "new/d.png")
    told = lines(("a.png", " large  rings\n"), ("./b.png", ""), ("new/d.png", "\u00e0d\u00ecr\u1eb9"))
    upload(folder, **{"metadata.jsonl": b"\xef\xbb\xbf" + told.replace(b"\n", b"\r\n\r\n")})
    found = {"a.png": "large rings", "b.png": "cloth", "c.png": "cloth", "new/d.png": "\u00e0d\u00ecr\u1eb9"}
    assert captions(folder) == found


def test_a_txt_of_the_same_name_wins_unless_it_is_empty(folder: FolderStore) -> None:
    pictures(folder, "a.png", "b.png")
    upload(folder, **{"metadata.jsonl": lines(("a.png", "line a"), ("b.png", "line b"))})
    upload(folder, **{"a.txt": b"file a\n", "b.txt": b"\n"})
    assert captions(folder) == {"a.png": "file a", "b.png": "line b"}


def test_names_are_relative_to_the_folder_and_the_nearest_file_wins(folder: FolderStore) -> None:
    pictures(folder, "a.png", "new/a.png", "new/b.png")
    upload(folder, **{"metadata.jsonl": lines(("a.png", "top"), ("new/a.png", "far"), ("new/b.png", "only"))})
    upload(folder, **{"new/metadata.jsonl": lines(("a.png", "near"), ("../a.png", "from below"))})
    assert captions(folder) == {"a.png": "top", "new/a.png": "near", "new/b.png": "only"}


def test_a_line_about_no_picture_is_told_and_not_fatal(folder: FolderStore) -> None:
    pictures(folder, "a.png")
    told = lines(("a.png", "rings"), ("gone.png", "dots"), ("a.png", "waves"), ("a.gif", "moons"))
    upload(folder, **{"a.gif": b"", "metadata.jsonl": told})
    manifest, _ = ingest(folder, NAME, SPEC)
    assert manifest.items[0].caption == "rings"
    assert remarks(folder, manifest) == [
        "1 file of other kinds left out: 1 .gif",
        "2 captions of no picture: metadata.jsonl line 2 (gone.png), metadata.jsonl line 4 (a.gif)",
        "1 caption unused, as the picture has another: metadata.jsonl line 3 (a.png)",
    ]


DAMAGED = {
    "no json": (b'{"file_name": "a.png", "te', "Invalid JSON: EOF while parsing a string at column 26"),
    "no object": (b'["a.png", "rings"]', "Input should be an object"),
    "no name": (b'{"text": "rings"}', "file_name: Field required"),
    "empty name": (b'{"file_name": "", "text": "rings"}', "file_name: String should have at least 1 character"),
    "no text": (b'{"file_name": "a.png"}', "text: Field required"),
    "null": (b'{"file_name": "a.png", "text": null}', "text: Input should be a valid string"),
    "latin": (b'{"file_name": "a.png", "text": "\xe0d\xecr"}', "is not UTF-8 text"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_line_ends_the_ingest_before_anything_is_written(folder: FolderStore, kind: str) -> None:
    line, reason = DAMAGED[kind]
    pictures(folder, "a.png")
    upload(folder, **{"torn.png": b"", "new/metadata.jsonl": lines(("b.png", "dots")) + b"\n" + line})
    with pytest.raises(DatasetUnusable) as caught:
        ingest(folder, NAME, SPEC)
    assert f"dataset '{NAME}': new/metadata.jsonl line 3: {reason}" in str(caught.value)
    assert ". Nothing was ingested. Correct the table or remove it: each line names a picture" in str(caught.value)
    assert all(key.startswith("uploads/") for key in folder.list(""))


def test_all_damaged_lines_are_counted(folder: FolderStore) -> None:
    pictures(folder, "a.png")
    upload(folder, **{"metadata.jsonl": b"{\n" * 7, "new/metadata.jsonl": b"{"})
    with pytest.raises(CaptionsUnusable, match=r"metadata.jsonl line 4.*; and 3 more lines\. Nothing") as caught:
        ingest(folder, NAME, SPEC)
    assert len(caught.value.faults) == 8
