"""Any folder is ingested, or refused by an error of ours: no caption is another picture's, and each file has its fate.

`FOLDERS=2000 python -m pytest tests/unit/core/data/test_random_folders.py` draws more of them.
"""

import hashlib
import os
import re
import tempfile
from collections import defaultdict
from pathlib import Path
from uuid import uuid4

from hypothesis import HealthCheck, given, settings

from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import Manifest, Refusal, remarks
from tasks.core.data.ingest import ingest
from tasks.core.errors import CaptionsUnusable, DatasetUnusable
from tasks.core.store import FolderStore, S3Store, Store
from tasks.core.training.local import import_folder
from tests.random_folders import INSTANCE, ODD, Picture, RandomFolder, random_folders
from tests.s3_server import connect, put

SPEC = IngestSpec(instance_prompt=INSTANCE)
LONG_AGO = 1_700_000_000  # in seconds
COUNT = int(os.environ.get("FOLDERS", "200"))
ON_S3 = [name for name in ODD if name.isprintable()] + ["folder//b.png", "./c.png", "sub/../d.png", "e.png/"]
often = settings(
    max_examples=COUNT, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
seldom = settings(often, max_examples=max(10, COUNT // 20))
Outcome = tuple[Manifest, tuple[Refusal, ...], list[str]]


@often
@given(random_folders())
def test_any_folder_is_ingested_as_it_lies_in_a_store(folder: RandomFolder) -> None:
    with tempfile.TemporaryDirectory() as place:
        write(folder, Path(place) / "store/uploads/cloth")
        check(folder, FolderStore(Path(place) / "store"), [])


@seldom
@given(random_folders())
def test_any_folder_is_ingested_by_the_training_command(folder: RandomFolder) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write(folder, place / "data")
        store = FolderStore(place / "out/store")
        _, left_out = import_folder(store, "cloth", place / "data", place / "out")
        check(folder, store, left_out)


@seldom
@given(random_folders(odd=ON_S3))
def test_any_folder_is_ingested_from_s3(bucket: str, folder: RandomFolder) -> None:
    root, client = uuid4().hex, connect()
    for name, data in folder.files.items():
        put(client, f"{root}/uploads/cloth/{name}", data)
    check(folder, S3Store(f"s3://{bucket}/{root}", client), [])


def write(folder: RandomFolder, root: Path) -> None:
    for name, data in folder.files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
        os.utime(root / name, (LONG_AGO, LONG_AGO))  # an index remembers it


def check(folder: RandomFolder, store: Store, left_out: list[str]) -> None:
    """The outcome against the truth on the folder."""
    try:
        manifest, refusals = ingest(store, "cloth", SPEC)
    except CaptionsUnusable:
        assert folder.bad_table
        return
    except DatasetUnusable:
        unreadable = {sha(picture) for picture in folder.pictures if picture.unreadable}
        assert all(sha(picture) in unreadable for picture in folder.pictures if picture.good)
        return
    assert not folder.bad_table
    lines = left_out + remarks(store, manifest)
    again, refused = ingest(store, "cloth", SPEC)  # by the index, where it remembers the uploads
    assert (again, left_out + remarks(store, again)) == (manifest, lines)
    assert [(one.name, one.reason) for one in refused] == [(one.name, one.reason) for one in refusals]
    check_captions(folder, manifest, refusals)
    check_fates(folder, (manifest, refusals, lines))


def check_captions(folder: RandomFolder, manifest: Manifest, refusals: tuple[Refusal, ...]) -> None:
    same: dict[str, list[Picture]] = defaultdict(list)
    for picture in folder.pictures:
        same[sha(picture)].append(picture)
    for item in manifest.items:
        assert item.name in {picture.name for picture in same[item.sha256]}
        own = {caption for picture in same[item.sha256] for caption in picture.captions.values()}
        assert item.caption in {INSTANCE, *own}, f"{item.name}: {item.caption!r}"
    captions = {item.sha256: item.caption for item in manifest.items}
    assert captions.keys() | {refusal.sha256 for refusal in refusals} == same.keys()
    for name, pictures in same.items():
        if pictures[0].good and not any(picture.unreadable for picture in pictures):
            sure = any(picture.sure for picture in pictures)
            assert captions[name] != INSTANCE or not sure, f"the caption of {pictures} is lost"


def check_fates(folder: RandomFolder, outcome: Outcome) -> None:
    manifest, refusals, lines = outcome
    copies = count(lines, r"pictures? left out as the same file")
    assert len(manifest.items) + len(refusals) + copies == len(folder.pictures)
    assert count(lines, r"pictures? refused") == len(refusals)
    assert count(lines, r"names? left out that no store") == folder.odd
    assert count(lines, r"files? left out as hidden") == folder.junk
    assert count(lines, r"files? of other kinds left out") == folder.others
    assert count(lines, r"captions? of no picture") == folder.orphans
    taken = {item.name: item.caption for item in manifest.items}
    used = [picture for picture in folder.pictures if picture.name in taken]
    idle = sum(caption != taken[picture.name] for picture in used for caption in picture.captions.values())
    assert count(lines, r"captions? (unused|that could be of)") >= idle
    assert all(line.isprintable() for line in lines)


def count(lines: list[str], what: str) -> int:
    """The sum of the numbers with which lines of a kind begin."""
    found = (re.match(rf"([\d,]+) {what}", line) for line in lines)
    return sum(int(match[1].replace(",", "")) for match in found if match)


def sha(picture: Picture) -> str:
    return hashlib.sha256(picture.data).hexdigest()
