"""Ingestion over a real folder store: what is taken, what is refused and why, and what a version is."""

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import Refusal, blobs, load_manifest, manifest_key, pictures_since, remarks
from tasks.core.data.failures import failure_key
from tasks.core.data.ingest import ingest
from tasks.core.errors import DatasetUnusable
from tasks.core.store import FolderStore
from tasks.core.store.documents import digest, read_documents
from tests.odd_pictures import encoded, heic, noise

SPEC = IngestSpec(min_side=32, max_pixels=200 * 200)
NAME = "cloth"


def upload(store: FolderStore, name: str, data: bytes) -> str:
    store.write(f"uploads/{NAME}/{name}", data)
    return hashlib.sha256(data).hexdigest()


def test_png_jpg_and_webp_become_blobs_under_their_hash(folder: FolderStore) -> None:
    kinds = {"a.png": "PNG", "b.jpg": "JPEG", "C.JPEG": "JPEG", "d.webp": "WEBP"}
    hashes = {upload(folder, name, encoded(noise(i), kind)) for i, (name, kind) in enumerate(kinds.items())}
    manifest, refusals = ingest(folder, NAME, SPEC)
    assert refusals == ()
    assert {item.sha256 for item in manifest.items} == hashes
    assert {item.name for item in manifest.items} == set(kinds)
    assert all(hashlib.sha256(data).hexdigest() == item.sha256 for item, data in blobs(folder, NAME, manifest.items))
    assert manifest.new == 4


def test_heic_and_avif_are_taken(folder: FolderStore) -> None:
    for i, (name, kind) in enumerate({"a.avif": "AVIF", "c.jfif": "JPEG", "d.jpe": "JPEG"}.items()):
        upload(folder, name, encoded(noise(i), kind))
    upload(folder, "b.HEIC", heic(noise(9)))
    manifest, refusals = ingest(folder, NAME, SPEC)
    assert refusals == ()
    assert sorted(item.name for item in manifest.items) == ["a.avif", "b.HEIC", "c.jfif", "d.jpe"]


class Vast(FolderStore):
    """A folder in which some objects must not be read."""

    def read(self, key: str) -> bytes:
        assert not key.endswith("film.png"), f"{key} is read whole"
        return super().read(key)


def test_what_has_too_many_bytes_is_refused_unread(tmp_path: Path) -> None:
    store, spec = Vast(tmp_path / "store"), SPEC.model_copy(update={"max_bytes": 10_000})
    upload(store, "a.png", encoded(noise(1)))
    with (tmp_path / f"store/uploads/{NAME}/film.png").open("wb") as film:
        film.truncate(2**40)  # on no disk
    for _ in range(2):
        manifest, refusals = ingest(store, NAME, spec)
        assert [item.name for item in manifest.items] == ["a.png"]
        reason = f"has {2**40} bytes, more than 10000; save it smaller, or raise ingest.max_bytes"
        assert [(refusal.name, refusal.reason) for refusal in refusals] == [("film.png", reason)]
        assert len(list(store.list(f"quarantine/{NAME}/"))) == 1


def test_captions_lie_beside_the_pictures(folder: FolderStore) -> None:
    for i, name in enumerate("abc"):
        upload(folder, f"{name}.png", encoded(noise(i)))
    upload(folder, "a.txt", b" large  rings\nin adire_style \n")
    upload(folder, "b.txt", b" \n")
    manifest, _ = ingest(folder, NAME, SPEC)
    captions = {item.name: item.caption for item in manifest.items}
    assert captions["a.png"] == "large rings in adire_style"
    assert captions["b.png"] == captions["c.png"] == SPEC.instance_prompt


def test_the_same_uploads_give_the_same_version(folder: FolderStore) -> None:
    upload(folder, "a.png", encoded(noise(1)))
    first, _ = ingest(folder, NAME, SPEC)
    upload(folder, "copy of a.png", encoded(noise(1)))
    again, _ = ingest(folder, NAME, SPEC)
    assert again == first
    keys = [manifest_key(NAME, first.version), f"datasets/{NAME}/head.json", f"datasets/{NAME}/index.json"]
    assert list(folder.list(f"datasets/{NAME}/")) == keys


def test_a_version_follows_from_content_not_from_names_or_order(folder: FolderStore) -> None:
    for i in range(4):
        upload(folder, f"{i}.png", encoded(noise(i)))
        folder.write(f"uploads/other/{9 - i}.png", encoded(noise(i)))
    assert ingest(folder, NAME, SPEC)[0].version == ingest(folder, "other", SPEC)[0].version


def test_a_new_caption_is_a_new_version_without_new_pictures(folder: FolderStore) -> None:
    upload(folder, "a.png", encoded(noise(1)))
    first, _ = ingest(folder, NAME, SPEC)
    upload(folder, "a.txt", b"dots in adire_style")
    second, _ = ingest(folder, NAME, SPEC)
    assert second.version != first.version
    assert second.new == 0


def test_new_pictures_are_counted(folder: FolderStore) -> None:
    for i in range(3):
        upload(folder, f"{i}.png", encoded(noise(i)))
    first, _ = ingest(folder, NAME, SPEC)
    for i in range(2, 7):
        upload(folder, f"{i}.png", encoded(noise(i)))
    second, _ = ingest(folder, NAME, SPEC)
    assert (first.new, second.new) == (3, 4)
    assert pictures_since(folder, second, first.version) == 4
    assert pictures_since(folder, second, second.version) == 0
    assert pictures_since(folder, second, "") == 7
    assert load_manifest(folder, NAME) == second
    assert load_manifest(folder, NAME, first.version) == first


BAD = {
    "empty.png": (b"", "cannot be decoded"),
    "text.png": (b"this is no picture", "cannot be decoded"),
    "half.png": (encoded(noise(1))[:1500], "cannot be decoded"),
    "half.jpg": (encoded(noise(1), "JPEG")[:300], "cannot be decoded"),
    "other.png": (encoded(noise(1), "GIF"), "cannot be decoded"),
    "tiny.png": (encoded(noise(1, 20, 20)), "20 x 20 is smaller than 32 pixels"),
    "huge.png": (encoded(noise(1, 201, 201)), "201 x 201 is more than 40000 pixels"),
    "strip.png": (encoded(noise(1, 32, 264)), "32 x 264 is more than 8 times as long as wide"),
    "flat.png": (encoded(Image.new("RGB", (64, 64), "navy")), "is blank"),
    "clear.png": (encoded(Image.new("RGBA", (64, 64), (9, 9, 9, 0))), "is blank"),
}


def test_names_are_told_with_their_folder(folder: FolderStore) -> None:
    upload(folder, "2026/may/a.png", encoded(noise(1)))
    upload(folder, "2026/may/torn.png", b"")
    manifest, refusals = ingest(folder, NAME, SPEC)
    assert [item.name for item in manifest.items] == ["2026/may/a.png"]
    assert [r.name for r in refusals] == ["2026/may/torn.png"]


WITHOUT = f"without a caption given the instance prompt {SPEC.instance_prompt!r}"


def test_of_copies_the_plainest_counts_and_the_others_are_told(folder: FolderStore) -> None:
    for name in ("b.png", "a.png", "more/a.png"):
        upload(folder, name, encoded(noise(1)))
    upload(folder, "a.txt", b"the caption of the first")
    upload(folder, "b.txt", b"another")
    for name in ("torn.png", "torn too.png"):
        upload(folder, name, encoded(noise(2))[:900])
    manifest, refusals = ingest(folder, NAME, SPEC)
    assert [(item.name, item.caption) for item in manifest.items] == [("a.png", "the caption of the first")]
    assert [r.name for r in refusals] == ["torn.png"]
    assert [r.name for r in read_documents(folder, Refusal, f"quarantine/{NAME}/")] == ["torn.png"]
    told = "b.png (of a.png), more/a.png (of a.png), torn too.png (of torn.png)"
    assert remarks(folder, manifest)[1:] == [
        f"3 pictures left out as the same file as another: {told}",
        "1 caption unused, as that of the same picture under another name counts: b.png",
    ]


@pytest.mark.parametrize(
    ("names", "caption", "first"),
    [
        (("IMG_1 (1).png", "IMG_1.png"), "", "IMG_1.png"),
        (("IMG_1 (1).png", "IMG_1.png"), "IMG_1.txt", "IMG_1.png"),
        (("IMG_1 (1).png", "IMG_1.png"), "IMG_1 (1).txt", "IMG_1 (1).png"),
        (("a/copy of x.png", "b/x.png"), "", "b/x.png"),
        ((".ipynb_checkpoints/x-checkpoint.png", "x.png"), "x.txt", "x.png"),
        (("._x.png", ".x.png", "@eaDir/x.png", "__MACOSX/._x.png", "deep/er/x.png"), "", "deep/er/x.png"),
    ],
)
def test_of_copies_one_with_a_caption_counts_else_the_plainest_name(
    folder: FolderStore, names: tuple[str, ...], caption: str, first: str
) -> None:
    for name in names:
        upload(folder, name, encoded(noise(1)))
    if caption:
        upload(folder, caption, b"rings")
    (item,) = ingest(folder, NAME, SPEC)[0].items
    assert (item.name, item.caption) == (first, "rings" if caption else SPEC.instance_prompt)


def test_a_copy_that_comes_later_is_told_though_the_version_stays(folder: FolderStore) -> None:
    upload(folder, "a.png", encoded(noise(1)))
    first, _ = ingest(folder, NAME, SPEC)
    assert remarks(folder, first) == [f"1 picture {WITHOUT}: a.png"]
    upload(folder, "b.png", encoded(noise(1)))
    again, _ = ingest(folder, NAME, SPEC)
    assert again == first
    told = remarks(folder, again)
    assert told == ["1 picture left out as the same file as another: b.png (of a.png)", f"1 picture {WITHOUT}: a.png"]


def test_a_copy_whose_first_had_a_bad_caption_is_taken(folder: FolderStore) -> None:
    upload(folder, "a.png", encoded(noise(1)))
    upload(folder, "a.txt", b"\xff")
    upload(folder, "b.png", encoded(noise(1)))
    manifest, refusals = ingest(folder, NAME, SPEC)
    assert ([item.name for item in manifest.items], [r.name for r in refusals]) == (["b.png"], ["a.png"])
    refused = "1 picture refused: its caption is not UTF-8 text; save it as UTF-8: a.png"
    assert remarks(folder, manifest) == [refused, f"1 picture {WITHOUT}: b.png"]


def test_how_a_picture_is_changed_stands_with_it_and_is_told(folder: FolderStore) -> None:
    upload(folder, "plain.png", encoded(noise(1)))
    upload(folder, "print.jpg", encoded(noise(2).convert("CMYK"), "JPEG"))
    manifest, _ = ingest(folder, NAME, SPEC)
    notes = {item.name: item.note for item in load_manifest(folder, NAME).items}
    assert notes == {"plain.png": "", "print.jpg": "CMYK made RGB without a colour profile"}
    changed = "1 picture changed: CMYK made RGB without a colour profile: print.jpg"
    assert remarks(folder, manifest) == [f"2 pictures {WITHOUT}: plain.png, print.jpg", changed]


def test_a_note_is_no_part_of_the_version(folder: FolderStore) -> None:
    sha = upload(folder, "print.jpg", encoded(noise(2).convert("CMYK"), "JPEG"))
    assert ingest(folder, NAME, SPEC)[0].version == digest(f"{sha} {SPEC.instance_prompt}")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_goes_into_the_quarantine_with_its_reason(folder: FolderStore, name: str) -> None:
    data, reason = BAD[name]
    good, bad = upload(folder, "good.png", encoded(noise(7))), upload(folder, name, data)
    manifest, refusals = ingest(folder, NAME, SPEC)
    assert [item.sha256 for item in manifest.items] == [good]
    assert [r.name for r in refusals] == [name]
    assert list(read_documents(folder, Refusal, f"quarantine/{NAME}/")) == list(refusals)
    assert reason in refusals[0].reason
    assert folder.exists(f"quarantine/{NAME}/{bad}.json")
    assert not folder.exists(f"blobs/{bad}")


def test_a_caption_that_is_no_text_is_refused_by_name(folder: FolderStore) -> None:
    upload(folder, "good.png", encoded(noise(7)))
    upload(folder, "a.png", encoded(noise(8)))
    upload(folder, "a.txt", b"\xe0d\xecr")
    _, refusals = ingest(folder, NAME, SPEC)
    assert [r.name for r in refusals] == ["a.png"]
    assert "not UTF-8" in refusals[0].reason


def test_without_uploads_the_error_names_the_dataset_and_the_place(folder: FolderStore) -> None:
    upload(folder, "notes.txt", b"no picture")
    with pytest.raises(DatasetUnusable, match=rf"dataset '{NAME}'.*uploads/{NAME}/ holds no picture") as caught:
        ingest(folder, NAME, SPEC)
    assert caught.value.dataset == NAME
    assert list(folder.list("datasets/")) == [failure_key(NAME)]


def test_only_corrupt_uploads_make_no_version(folder: FolderStore) -> None:
    upload(folder, "a.png", b"nothing")
    upload(folder, "b.png", b"nothing else")
    with pytest.raises(
        DatasetUnusable, match=f"'{NAME}': none of its 2 pictures can be used; 2 pictures refused: cannot"
    ):
        ingest(folder, NAME, SPEC)
    assert list(folder.list("datasets/")) == [failure_key(NAME)]
    assert len(list(folder.list(f"quarantine/{NAME}/"))) == 2
