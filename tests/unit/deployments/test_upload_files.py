"""The files of folders and archives that are uploaded, their order, and remarks on the others."""

from pathlib import Path

import pytest

from deployments.gateway.archives import ArchiveRefused
from deployments.upload_files import in_sending_order, local_files
from tasks.core.data.file_kinds import sort_uploads
from tests.unit.deployments.gateway.zips import overlapping, zipped

FILES = {
    "b/c.jpg": b"two",
    "b/c.txt": b"large rings",
    "a.png": b"one",
    "a.png.txt": b"small rings",
    "metadata.jsonl": b"{}",
    ".DS_Store": b"",
    "clip.mov": b"film",
    "b/_READY": b"",
}
SENT = ["a.png.txt", "a.png", "metadata.jsonl", "b/c.txt", "b/c.jpg"]


@pytest.fixture(params=["folder", "archive"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    if request.param == "archive":
        place.write_bytes(zipped(FILES))
        return place
    for name, data in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def test_what_an_ingest_takes_is_sent_and_the_rest_is_named(path: Path) -> None:
    with local_files(path) as (files, remarks):
        assert {file.name: b"".join(file.chunks()) for file in files} == {name: FILES[name] for name in SENT}
        assert [file.name for file in files] == SENT
        assert {file.name: file.size for file in files} == {name: len(FILES[name]) for name in SENT}
    assert [line.partition(":")[0] for line in remarks] == [
        "1 file left out as hidden, or as a leftover of a program",
        "1 file of other kinds left out",
    ]


def test_names_that_no_store_holds_links_to_folders_and_links_to_nothing_are_named(tmp_path: Path) -> None:
    place = tmp_path / "photos"
    place.mkdir()
    (place / "a\n.png").write_bytes(b"one")
    (place / "b.png").symlink_to(tmp_path / "nothing")
    (place / "folder").symlink_to(tmp_path)
    with local_files(place) as (files, remarks):
        assert files == []
    assert [line.partition(":")[0] for line in remarks] == [
        "1 file left out that cannot be read",
        "2 names left out that no store can hold, or of linked or locked folders",
    ]


def test_a_dangerous_archive_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "bomb.zip").write_bytes(overlapping(20, 50_000))
    with pytest.raises(ArchiveRefused, match="overlaps"), local_files(tmp_path / "bomb.zip"):
        pass


@pytest.mark.parametrize("names", [[], ["metadata.csv"], ["a.txt"], ["a.txt", "metadata.csv"]])
def test_nothing_is_lost_in_the_order_without_a_picture(names: list[str]) -> None:
    assert sorted(in_sending_order(sort_uploads(names, []))) == sorted(names)
