"""Captions beside the pictures: texts of one picture each, and tables of many."""

import json
import unicodedata

import pytest

from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import remarks
from tasks.core.data.failures import failure_key
from tasks.core.data.ingest import ingest
from tasks.core.errors import CaptionsUnusable, DatasetUnusable
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
    assert [key for key in folder.list("") if not key.startswith("uploads/")] == [failure_key(NAME)]


def test_all_damaged_lines_are_counted(folder: FolderStore) -> None:
    pictures(folder, "a.png")
    upload(folder, **{"metadata.jsonl": b"{\n" * 7, "new/metadata.jsonl": b"{"})
    with pytest.raises(CaptionsUnusable, match=r"metadata.jsonl line 4.*; and 3 more lines\. Nothing") as caught:
        ingest(folder, NAME, SPEC)
    assert len(caught.value.faults) == 8


NFC, NFD = unicodedata.normalize("NFC", "\u00e0d\u00ecr\u1eb9"), unicodedata.normalize("NFD", "\u00e0d\u00ecr\u1eb9")
BESIDE = {
    "caption": ("a.png", "a.caption"),
    "whole name": ("a.png", "a.png.txt"),
    "whole name, caption": ("a.png", "a.png.caption"),
    "capital ending": ("a.png", "a.TXT"),
    "another case": ("IMG_1.JPG", "img_1.txt"),
    "another case, sub-folder": ("Indigo/A.png", "indigo/a.Txt"),
    "picture of a Mac": (f"{NFD}.png", f"{NFC}.txt"),
    "text of a Mac": (f"{NFC}.png", f"{NFD.upper()}.txt"),
    "dots": ("a.b.c.png", "a.b.c.txt"),
    "blanks": ("a.png ", "a.txt "),
    "device": ("CON.png", "con.txt"),
    "notes of that name": ("readme.png", "README.txt"),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_a_caption_lies_beside_its_picture(folder: FolderStore, kind: str) -> None:
    picture, text = BESIDE[kind]
    pictures(folder, picture, "other.png")
    upload(folder, **{text: b"rings"})
    assert captions(folder) == {picture: "rings", "other.png": "cloth"}


TABLES = {
    "csv": ("metadata.csv", b'file_name,text\na.png,"large, rings"\nb.png,dots\n'),
    "csv of a spreadsheet": ("metadata.csv", b"\xef\xbb\xbfFile_Name;Text\r\na.png;large, rings\r\nb.png;dots\r\n"),
    "csv of tabs in UTF-16": ("Metadata.CSV", "image\tcaption\na.png\tlarge, rings\nb.png\tdots".encode("utf-16")),
    "list": (
        "metadata.json",
        b'[{"image_path": "a.png", "caption": "large, rings"}, {"image": "./b.png", "prompt": "dots"}]',
    ),
    "names": ("metadata.json", b'{"a.png": "large, rings", "b.png": "dots"}'),
    "kohya": (
        "meta_cap.json",
        b'{"a": {"caption": "large", "tags": "rings"}, "b": {"tags": ["dots"], "train_resolution": [64, 64]}}',
    ),
    "lines with other columns": (
        "metadata.jsonl",
        b'{"filename": "a.png", "caption": "large, rings"}\n{"filepath": ".\\\\b.png", "text": "dots"}',
    ),
    "lines in UTF-16": (
        "metadata.jsonl",
        lines(("a.png", "large, rings"), ("B.PNG", "dots")).decode().encode("utf-16"),
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_as_other_programs_write_them(folder: FolderStore, kind: str) -> None:
    name, data = TABLES[kind]
    pictures(folder, "new/a.png", "new/b.png", "a.png")
    upload(folder, **{f"new/{name}": data})
    assert captions(folder) == {"new/a.png": "large, rings", "new/b.png": "dots", "a.png": "cloth"}


STRANGE = {
    "of none": ("metadata.csv", b"file_name,text\nx.png,rings\n/home/me/a.png,dots\n", "none of its 2 lines names"),
    "of no column": ("metadata.csv", b"picture,words\na.png,rings\n", "line 2: file_name: Field required"),
    "no JSON": ("metadata.json", b'{"a.png": "ri', "EOF while parsing a string"),
    "deep": ("metadata.json", b"[" * 100_000, "recursion limit exceeded"),
    "number": ("metadata.json", b"7", "is neither a list nor an object"),
    "of another program": ("metadata.json", b'{"title": "cloth", "count": 7}', "entry 'count': text: Input should be"),
    "latin": ("metadata.csv", b"file_name,text\na.png,\xe0d\xecr\n", "is not UTF-8 text"),
    "bytes": ("metadata.jsonl", bytes(range(256)), "is not UTF-8 text"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_table_that_says_nothing_of_the_pictures_ends_the_ingest(folder: FolderStore, kind: str) -> None:
    name, data, reason = STRANGE[kind]
    pictures(folder, "a.png")
    upload(folder, **{name: data})
    with pytest.raises(CaptionsUnusable) as caught:
        ingest(folder, NAME, SPEC)
    assert f"dataset 'cloth': {name}" in str(caught.value)
    assert reason in str(caught.value)
    assert list(folder.list("datasets/")) == [failure_key(NAME)]


def told(store: FolderStore, trigger: str = "") -> list[str]:
    return remarks(store, ingest(store, NAME, SPEC, trigger)[0])


def test_captions_that_are_not_used_are_told_once(folder: FolderStore) -> None:
    pictures(folder, "a.png", "b.png", "c.png", "d.png", "sub/e.png")
    upload(folder, **{"lost.txt": b"x", "e.txt": b"of the folder below", "c.PNG.caption": b"rings"})
    upload(folder, **{"a.txt": b"rings", "a.caption": b"dots", "a.png.txt": b" rings ", "b.txt": b"", "d.txt": b"dots"})
    upload(
        folder,
        **{
            "a.png.caption": b"\xe9",
            "README.txt": b"x",
            "LICENSE.txt": b"x",
            "metadata.jsonl": lines(("c.png", "waves")),
        },
    )
    assert told(folder) == [
        "1 caption unused, as it cannot be read and the picture has another: a.png.caption",
        "2 captions left out as notes: LICENSE.txt, README.txt",
        "1 caption without text: b.txt",
        "2 captions of no picture: e.txt, lost.txt",
        "2 captions unused, as the picture has another: a.caption (a.png), metadata.jsonl line 1 (c.png)",
        "2 pictures without a caption given the instance prompt 'cloth': b.png, sub/e.png",
    ]


def test_a_caption_that_may_be_of_two_pictures_is_given_to_none(folder: FolderStore) -> None:
    pictures(folder, "a.jpg", "a.png", "b.png", "B.png", "A.webp")
    upload(
        folder, **{"a.txt": b"rings", "b.txt": b"dots", "a.png.txt": b"waves", "metadata.csv": b"image,text\nB,moons"}
    )
    assert captions(folder) == {
        "a.jpg": "cloth",
        "a.png": "waves",
        "b.png": "dots",
        "B.png": "moons",
        "A.webp": "cloth",
    }
    assert "1 caption that could be of several pictures, used for none: a.txt (a.jpg or a.png)" in told(folder)


def test_a_caption_beside_two_copies_is_that_of_both(folder: FolderStore) -> None:
    upload(folder, **{"a.png": encoded(noise(1)), "a.jpg": encoded(noise(1)), "a.txt": b"rings"})
    assert list(captions(folder).values()) == ["rings"]


TEXTS = {
    "mark": b"\xef\xbb\xbflarge rings",
    "UTF-16, little": "large rings".encode("utf-16-le"),
    "UTF-16, big": "large rings".encode("utf-16-be"),
    "UTF-16 with its mark": "large rings\r\n".encode("utf-16"),
    "UTF-32 with its mark": "large rings".encode("utf-32"),
    "NUL at the end": b"large rings\0",
    "NULs at the end": b"large rings\0\0\0\0\0\0",
    "escape": b"\x1blarge \x07rings\x7f",
    "zero width": "\u200blarge\u2060 rin\u00adgs\ufeff\u200d".encode(),
    "direction": "\u202alarge rings\u202c\u200e".encode(),
    "spaces of all kinds": "large\u3000\u00a0\u2028rings\t\x0b".encode(),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_is_read_as_its_letters(folder: FolderStore, kind: str) -> None:
    pictures(folder, "a.png")
    upload(folder, **{"a.txt": TEXTS[kind]})
    assert captions(folder) == {"a.png": "large rings"}


def test_letters_of_all_scripts_stay(folder: FolderStore) -> None:
    for i, text in enumerate(
        ("\u85cd\u67d3\u3081", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f3a8")
    ):
        pictures(folder, "a.png")
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            upload(folder, **{"a.txt": text.encode(encoding)})
            assert captions(folder) == {"a.png": text}, i
    upload(folder, **{"a.txt": NFD.encode()})
    assert captions(folder) == {"a.png": NFC}


@pytest.mark.parametrize(
    "data", [b"", b"\xef\xbb\xbf", "\u200b".encode(), b"\xff\xfe", b" \n\0", "\u200d\ufeff ".encode()]
)
def test_a_text_of_nothing_is_no_caption(folder: FolderStore, data: bytes) -> None:
    pictures(folder, "a.png")
    upload(folder, **{"a.txt": data})
    assert captions(folder) == {"a.png": "cloth"}
    assert "1 caption without text: a.txt" in told(folder)


GUESSES = [
    "\u00e0d\u00ecr".encode("cp1252"),
    "\u85cd\u67d3".encode("shift-jis"),
    "\u043a\u043e\u043b\u044c\u0446\u0430".encode("utf-16-le"),
    b"\xff\xfea",
    b"\xff\xfe\0\0\xff\xff\xff\xff",
    bytes(range(32)) * 2,
    b"rings " * 20_000,
]


@pytest.mark.parametrize("data", GUESSES)
def test_a_text_that_would_have_to_be_guessed_is_refused(folder: FolderStore, data: bytes) -> None:
    pictures(folder, "a.png", "b.png")
    upload(folder, **{"a.txt": data, "metadata.jsonl": lines(("a.png", "rings"), ("b.png", "dots"))})
    manifest, refusals = ingest(folder, NAME, SPEC)
    assert [(r.name, r.reason.startswith("its caption is n")) for r in refusals] == [("a.png", True)]
    assert [item.name for item in manifest.items] == ["b.png"]


def test_what_is_cleared_and_what_lacks_the_trigger_is_told_in_a_line_each(folder: FolderStore) -> None:
    pictures(folder, "a.png", "b.png", "c.png", "d.png")
    upload(folder, **{"a.txt": b"rings\x1b in Adire_Style", "b.txt": b"\xef\xbb\xbfdots", "c.txt": b"adire_style"})
    assert told(folder, "adire_style") == [
        "1 caption cleared of invisible characters: a.txt",
        "1 picture without a caption given the instance prompt 'cloth': d.png",
        "2 pictures with a caption that lacks the trigger 'adire_style': b.png, d.png",
    ]
