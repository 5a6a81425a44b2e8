"""Files as they really lie in folders and buckets: what is used, and the lines on what is not."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import remarks
from tasks.core.data.file_kinds import reason_left_out, sort_uploads
from tasks.core.data.ingest import ingest
from tasks.core.data.remarks import grouped, shown
from tasks.core.errors import DatasetUnusable
from tasks.core.store import FolderStore, S3Store, Store
from tests.odd_pictures import encoded, noise
from tests.s3_server import connect, put, refusing

SPEC = IngestSpec(instance_prompt="cloth")
Put = Callable[[str, bytes], None]


def on_a_folder(root: Path) -> tuple[Store, Put]:
    def put(name: str, data: bytes) -> None:
        path = root / "uploads" / "cloth" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return FolderStore(root), put


def on_s3(bucket: str) -> tuple[Store, Put]:
    root, client = uuid4().hex, connect()
    return S3Store(f"s3://{bucket}/{root}", client), lambda name, data: put(
        client, f"{root}/uploads/cloth/{name}", data
    )


BOTH = ["a\\b.png", ".dyeworks-x.png", "tab\x07.png", "sub/.dyeworks-y/a.png"]
ON_S3 = [*BOTH, "folder//b.png", "/a.png", "./b.png", "../c.png", "sub/../d.png", "ending.png/", "e" * 256 + ".png"]
ON_A_FOLDER = [*BOTH, os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"caf\x82.png"), "new\nline.png", "\x7f\x1b[31m.png"]


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_odd_names_stop_nothing_and_are_told(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    s3 = kind == "s3"
    store, lay = on_s3(request.getfixturevalue("bucket")) if s3 else on_a_folder(tmp_path)
    odd = ON_S3 if s3 else ON_A_FOLDER
    used = ["a.png", "A.png", "blank.png ", " b.png", "CON.png", "a+b%20c&d?.png", "\u85cd.png", "e" * 240 + ".png"]
    for i, name in enumerate(used + odd):
        lay(name, encoded(noise(i)))
    manifest, refusals = ingest(store, "cloth", SPEC)
    assert sorted(item.name for item in manifest.items) == sorted(used)
    assert refusals == ()
    line = remarks(store, manifest)[0]
    assert line.startswith(f"{len(odd)} names left out that no store can hold, or of linked or locked folders: ")
    assert line.isprintable()
    assert ingest(store, "cloth", SPEC)[0] == manifest


def test_links_pipes_and_what_is_locked_stop_nothing(tmp_path: Path) -> None:
    store, put = on_a_folder(tmp_path / "store")
    put("a.png", encoded(noise(1)))
    place, elsewhere = tmp_path / "store/uploads/cloth", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.png").write_bytes(encoded(noise(2)))
    (place / "linked.png").symlink_to(elsewhere / "b.png")
    (place / "folder").symlink_to(elsewhere)
    (place / "away.png").symlink_to(tmp_path / "nowhere")
    (place / "round").symlink_to(place)
    os.mkfifo(place / "pipe.png")
    (place / "folder.png").mkdir()
    (place / "itself.png").symlink_to(place / "itself.png")
    manifest, refusals = ingest(store, "cloth", SPEC)
    assert {item.name for item in manifest.items} == {"a.png", "linked.png"}
    assert [refusal.name for refusal in refusals] == ["pipe.png"]
    assert remarks(store, manifest)[1:4] == [
        "1 picture left out that could not be read: was removed, or is a link to nothing: away.png",
        "1 picture left out that could not be read: Too many levels of symbolic links: itself.png",
        "2 names left out that no store can hold, or of linked or locked folders: folder, round",
    ]


def test_an_archived_upload_stops_nothing(bucket: str) -> None:
    root, client = uuid4().hex, connect()
    for i, name in enumerate(("a.png", "old.png")):
        put(client, f"{root}/uploads/cloth/{name}", encoded(noise(i)))
    archive = refusing(client, "GetObject", "InvalidObjectState", 403, "old.png")  # SeaweedFS archives nothing
    store = S3Store(f"s3://{bucket}/{root}", archive)
    manifest, _ = ingest(store, "cloth", SPEC)
    assert [item.name for item in manifest.items] == ["a.png"]
    assert remarks(store, manifest)[0].startswith("1 picture left out that could not be read: ")


def test_what_is_left_out_is_told_in_a_line_for_each_kind() -> None:
    gifs = [f"{i}.gif" for i in range(8)]
    junk = [".ipynb_checkpoints/a.png", "@eaDir/a.jpg", ".thumbnails/a.png", ".Trash-1000/files/a.png", "._a.png"]
    junk += ["__MACOSX/sub/._a.png", ".DS_Store", "Thumbs.db", "sub/desktop.ini", ".hidden.txt", "#recycle/a.png"]
    names = ["a.png", "A.JPEG", "b.webp", "x.bmp", "noending", *gifs, *junk]
    found = sort_uploads(names, [])
    assert found.pictures == ("A.JPEG", "a.png", "b.webp")
    assert found.texts == found.tables == ()
    assert found.remarks == (
        "11 files left out as hidden, or as a leftover of a program: "
        "#recycle/a.png, .DS_Store, .Trash-1000/files/a.png and 8 more",
        "10 files of other kinds left out: 8 .gif, 1 without ending, 1 .bmp",
    )


def test_where_no_picture_is_left_it_is_told_what_there_was(tmp_path: Path) -> None:
    store, put = on_a_folder(tmp_path)
    for name in ("a.gif", "b.gif", ".thumbnails/a.png", "no\\b.png"):
        put(name, b"")
    with pytest.raises(DatasetUnusable, match=r"holds no picture.*1 name left.*1 file left.*: 2 \.gif$"):
        ingest(store, "cloth", SPEC)


def test_folders_of_kohyas_trainer_are_told(tmp_path: Path) -> None:
    store, put = on_a_folder(tmp_path)
    for i, name in enumerate(("10_cloth/a.png", "10_cloth/b.png", "2_other/c.png", "2026_may/d.png", "e.png")):
        put(name, encoded(noise(i)))
    lines = remarks(store, ingest(store, "cloth", SPEC)[0])
    assert lines[0] == (
        "2 folders with 3 pictures, named as for kohya's trainer, whose repeats and class are ignored: "
        "10_cloth, 2_other"
    )


def test_a_large_folder_is_told_in_few_short_lines(tmp_path: Path) -> None:
    store, put = on_a_folder(tmp_path)
    put("good.png", encoded(noise(1)))
    for i in range(300):
        put(f"small/{i:03}.png", encoded(noise(i, 8 + i % 20, 9)))
        put(f"torn/{i:03}.png", encoded(noise(i))[: 50 + i])
        put(f"lost/{i:03}.txt", b"rings")
        put(f"other/{i:03}.{i}", b"")
    lines = remarks(store, ingest(store, "cloth", SPEC)[0])
    assert (
        "300 pictures refused: ... x 9 is smaller than 32 pixels: small/000.png, small/001.png, small/002.png and"
        in ("\n".join(lines))
    )
    assert "300 captions of no picture: lost/000.txt, lost/001.txt, lost/002.txt and 297 more" in lines
    assert len(lines) < 20
    assert max(map(len, lines)) < 400


def test_lines_are_grouped_by_what_differs_only_in_numbers() -> None:
    told = [("a", "7 x 8 is smaller than 32 pixels"), ("b", "9 x 8 is smaller than 32 pixels"), ("c", "torn")]
    assert grouped(told, "picture", "refused") == [
        "2 pictures refused: ... x 8 is smaller than 32 pixels: a, b",
        "1 picture refused: torn: c",
    ]
    many = [(f"{letter}.png", f"reason {letter}") for letter in "abcdefghijklmnop"]
    assert grouped(many, "picture", "refused")[-1] == (
        "6 pictures refused for other reasons: k.png, l.png, m.png and 3 more"
    )
    assert shown("a\nb\u202e\udce9") == r"'a\nb\u202e\udce9'"
    assert len(shown("a" * 1000)) == 120


@pytest.mark.parametrize("name", ["a.JPG", "a/b.heic", "a.png.txt", "metadata.jsonl", "b/meta_cap.json", "a.jpg "])
def test_no_reason_to_leave_out_what_is_taken(name: str) -> None:
    assert reason_left_out(name) == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/.hidden.jpg", "it is hidden"),
        ("__MACOSX/a.jpg", "a leftover"),
        ("a.mov", r"none of the kinds .*\.heic.*\.txt"),
    ],
)
def test_reason_of_what_is_left_out(name: str, reason: str) -> None:
    assert re.search(reason, reason_left_out(name))
