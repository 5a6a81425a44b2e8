"""An exported version is read by mlcroissant and by an ingest; it is written whole or not at all."""

import hashlib
import json
from pathlib import Path

import mlcroissant
import pytest
import yaml
from PIL import Image

from tasks.core.config.presets import IngestSpec
from tasks.core.data import export
from tasks.core.data.dataset import Manifest, load_manifest
from tasks.core.data.export import ExportRefused, export_version
from tasks.core.data.ingest import ingest
from tasks.core.data.split import split
from tasks.core.errors import DatasetUnusable
from tasks.core.store import FolderStore, upload_folder
from tests.odd_pictures import encoded, heic, noise

NAME, LICENCE = "cloth", "cc-by-4.0"
ODD = 'rings, "large"\N{LINE SEPARATOR} \N{BLACK HEART SUIT} <b>|</b>'


def uploaded(store: FolderStore, count: int, *kinds: str) -> Manifest:
    """A version of so many pictures, in turn of these kinds; each third has a caption of its own."""
    for number in range(count):
        kind = kinds[number % len(kinds)]
        picture = noise(number, 40, 40)
        data = heic(picture) if kind == "HEIC" else encoded(picture, kind)
        store.write(f"uploads/{NAME}/sub {number % 2}/Ä {number}.{kind.lower()}", data)
        if number % 3 == 0:
            store.write(f"uploads/{NAME}/sub {number % 2}/Ä {number}.txt", f"{ODD} {number}".encode())
    return ingest(store, NAME, IngestSpec())[0]


def described(folder: Path) -> dict[str, str]:
    """The hashes of all files by their paths, as croissant.json has them."""
    found = json.loads((folder / "croissant.json").read_text("utf-8"))["distribution"]
    return {one["contentUrl"]: one["sha256"] for one in found if one["@type"] == "cr:FileObject"}


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "croissant.json")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_mlcroissant_reads_every_picture_with_its_caption(folder: FolderStore, tmp_path: Path) -> None:
    manifest, out = uploaded(folder, 60, "PNG", "JPEG", "WEBP", "AVIF"), tmp_path / "out"
    counts = export_version(folder, manifest, LICENCE, out)
    assert counts["train"] + counts["validation"] == 60
    dataset = mlcroissant.Dataset(jsonld=out / "croissant.json")
    assert dataset.metadata.issues.errors == set()
    assert dataset.metadata.license == [LICENCE]
    found = list(dataset.records("captioned"))
    captions = {record["captioned/file_name"].decode()[:64]: record["captioned/caption"].decode() for record in found}
    assert captions == {item.sha256: item.caption for item in manifest.items}
    assert all(record["captioned/image"].size == (40, 40) for record in found)


def test_every_file_is_described_with_its_hash(folder: FolderStore, tmp_path: Path) -> None:
    manifest, out = uploaded(folder, 60, "PNG", "HEIC"), tmp_path / "out"
    export_version(folder, manifest, LICENCE, out)
    assert described(out) == hashes(out)
    pictures = {path.stem: path for path in out.glob("*/*") if path.suffix != ".jsonl"}
    assert pictures.keys() == {item.sha256 for item in manifest.items}
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == sha256 for sha256, path in pictures.items())
    assert {path.suffix for path in pictures.values()} == {".png", ".heic"}


def test_sides_are_kept_apart(folder: FolderStore, tmp_path: Path) -> None:
    manifest, out = uploaded(folder, 60, "PNG"), tmp_path / "out"
    export_version(folder, manifest, LICENCE, out)
    sides = split(folder, manifest)
    assert sides.held
    found = {part: {path.stem for path in (out / part).glob("*.png")} for part in ("train", "validation")}
    assert found["train"] == {item.sha256 for item in sides.train}
    assert found["validation"] == {item.sha256 for item in sides.held + sides.left_out}


def test_without_held_out_pictures_there_is_one_split(folder: FolderStore, tmp_path: Path) -> None:
    assert export_version(folder, uploaded(folder, 3, "PNG"), LICENCE, tmp_path / "out") == {"train": 3}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "croissant.json", "train"]
    mlcroissant.Dataset(jsonld=tmp_path / "out/croissant.json")


@pytest.mark.parametrize("count", [5, 60])
def test_an_ingest_of_the_export_makes_the_same_version(folder: FolderStore, tmp_path: Path, count: int) -> None:
    manifest, out = uploaded(folder, count, "PNG", "JPEG", "WEBP", "AVIF", "HEIC"), tmp_path / "out"
    export_version(folder, manifest, LICENCE, out)
    other = FolderStore(tmp_path / "other")
    upload_folder(other, out, "uploads/copy")
    again, refusals = ingest(other, "copy", IngestSpec(instance_prompt="something else"))
    assert {item.sha256: item.caption for item in again.items} == {i.sha256: i.caption for i in manifest.items}
    assert (again.version, refusals) == (manifest.version, ())


def test_the_card_has_the_licence_and_the_splits(folder: FolderStore, tmp_path: Path) -> None:
    manifest = uploaded(folder, 60, "PNG")
    export_version(folder, manifest, LICENCE, tmp_path / "out")
    _, front, text = (tmp_path / "out/README.md").read_text("utf-8").split("---\n", 2)
    found = yaml.safe_load(front)
    assert (found["license"], found["task_categories"]) == (LICENCE, ["text-to-image"])
    assert [one["split"] for one in found["configs"][0]["data_files"]] == ["train", "validation"]
    assert manifest.version in text


def test_a_folder_that_is_not_empty_is_refused_and_stays(folder: FolderStore, tmp_path: Path) -> None:
    manifest = uploaded(folder, 3, "PNG")
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "full/sub").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("file", "full", "link"):
        with pytest.raises(ExportRefused, match="is no empty folder"):
            export_version(folder, manifest, LICENCE, tmp_path / name)
    export_version(folder, manifest, LICENCE, tmp_path / "empty")
    with pytest.raises(ExportRefused):
        export_version(folder, manifest, LICENCE, tmp_path / "empty")
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert described(tmp_path / "empty") == hashes(tmp_path / "empty")


def test_an_export_that_fails_leaves_nothing(
    folder: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = uploaded(folder, 3, "PNG")
    key = f"blobs/{manifest.items[-1].sha256}"
    data = folder.read(key)
    folder.write(key, b"damaged")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DatasetUnusable, match="is damaged"):
        export_version(folder, manifest, LICENCE, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
    folder.write(key, data)

    def taken(*_: object) -> str:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/theirs").write_bytes(b"")
        return "card"

    monkeypatch.setattr(export, "_card", taken)
    with pytest.raises(ExportRefused):
        export_version(folder, load_manifest(folder, NAME), LICENCE, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs"]


def test_pictures_are_as_they_were_stored(folder: FolderStore, tmp_path: Path) -> None:
    data = encoded(noise(1).convert("CMYK"), "JPEG")
    folder.write(f"uploads/{NAME}/print.png", data)  # whose ending is wrong
    export_version(folder, ingest(folder, NAME, IngestSpec())[0], LICENCE, tmp_path / "out")
    (path,) = (tmp_path / "out/train").glob("*.jpg")
    assert path.read_bytes() == data
    assert Image.open(path).mode == "CMYK"


def test_an_empty_folder_that_cannot_be_replaced_is_filled(
    folder: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's volume is one: it can be neither renamed nor replaced."""
    manifest = uploaded(folder, 3, "PNG")
    volume = tmp_path / "volume"
    volume.mkdir()
    inode = volume.stat().st_ino
    export_version(folder, manifest, LICENCE, volume)
    assert volume.stat().st_ino == inode
    assert described(volume) == hashes(volume)
    monkeypatch.chdir(volume.parent)
    export_version(folder, manifest, LICENCE, Path("deep/../other"))
    assert described(tmp_path / "other") == hashes(tmp_path / "other")
