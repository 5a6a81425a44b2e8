"""What is held out was never trained on, and stays held out: over growing datasets, near-copies, two processes."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import TrainRequest
from tasks.core.data.dataset import Item, Manifest, manifest_key
from tasks.core.data.perceptual_hash import codes_of, distances, hashes, near
from tasks.core.data.split import FEWEST, NEAR, Sides, Split, choose, split
from tasks.core.errors import DatasetUnusable
from tasks.core.store import FolderStore, open_store
from tasks.core.store.documents import digest, read_document, render
from tasks.core.training.plan import plan_training
from tests.adire import installed
from tests.odd_pictures import encoded, noise

NAME = "cloth"


def sha_of(picture: Image.Image) -> str:
    return hashlib.sha256(encoded(picture)).hexdigest()


def put(store: FolderStore, pictures: Sequence[Image.Image]) -> Manifest:
    """A dataset version of these pictures."""
    files = {sha_of(picture): picture for picture in pictures}
    for sha, picture in files.items():
        if not store.exists(f"blobs/{sha}"):
            store.write(f"blobs/{sha}", encoded(picture))
    items = [Item(sha256=sha, caption="", name=f"{sha[:8]}.png") for sha in sorted(files)]
    version = digest(*(item.sha256 for item in items))
    manifest = Manifest(dataset=NAME, version=version, created=datetime.now(UTC), items=tuple(items), new=len(items))
    store.write(manifest_key(NAME, version), render(manifest))
    return manifest


def several(count: int, seed: int) -> list[Image.Image]:
    return [noise(1000 * seed + number) for number in range(count)]


def shas(items: Sequence[Item]) -> set[str]:
    return {item.sha256 for item in items}


def check(manifest: Manifest, parts: Split) -> None:
    """Every picture has one side; there are enough held out, or none."""
    sides = [shas(part) for part in (parts.train, parts.held, parts.left_out)]
    assert sum(map(len, sides)) == len(manifest.items)
    assert set.union(*sides) == shas(manifest.items)
    assert parts.train
    assert len(parts.held) == 0 or len(parts.held) >= FEWEST


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("count", "held"), [(1, 0), (10, 0), (20, 0), (30, 0), (40, 4), (57, 5)])
def test_a_tenth_is_held_out_or_nothing_and_none_of_it_is_trained_on(
    folder: FolderStore, seed: int, count: int, held: int
) -> None:
    manifest = put(folder, several(count, seed))
    parts = split(folder, manifest)
    check(manifest, parts)
    assert len(parts.held) == held
    assert len(parts.train) == count - held
    assert split(folder, manifest) == parts


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("sizes", [(10, 40, 200), (30, 50, 60, 61), (44, 46, 120)])
def test_what_was_trained_on_is_never_held_out_as_a_dataset_grows(
    folder: FolderStore, seed: int, sizes: tuple[int, ...]
) -> None:
    trained: set[str] = set()
    held: set[str] = set()
    pictures = several(max(sizes), seed)
    for size in sizes:
        manifest = put(folder, pictures[:size])
        parts = split(folder, manifest)
        check(manifest, parts)
        assert trained.isdisjoint(shas(parts.held))
        assert held.isdisjoint(shas(parts.train))
        trained |= shas(parts.train)
        held |= shas(parts.held)
    assert len(held) == max(sizes) // 10


def test_versions_of_other_pictures_keep_the_sides(folder: FolderStore) -> None:
    pictures = several(60, seed=0)
    whole = split(folder, put(folder, pictures))
    few = [p for p in pictures if sha_of(p) in shas(whole.held[:3])]
    fewer = split(folder, put(folder, pictures[:20] + few))
    assert fewer.held == ()
    assert shas(fewer.train) <= shas(whole.train)
    assert shas(whole.held[:3]) <= shas(fewer.left_out)


def test_a_version_of_held_out_pictures_alone_cannot_be_trained_on(folder: FolderStore) -> None:
    pictures = several(60, seed=0)
    held = shas(split(folder, put(folder, pictures)).held)
    alone = put(folder, [p for p in pictures if sha_of(p) in held])
    with pytest.raises(DatasetUnusable, match="only held-out pictures"):
        split(folder, alone)


def brighter(picture: Image.Image) -> Image.Image:
    """The picture with other bytes, and hardly another hash."""
    return ImageEnhance.Brightness(picture).enhance(0.9)


def of(pictures: Sequence[Image.Image], items: Sequence[Item]) -> list[Image.Image]:
    return [p for p in pictures if sha_of(p) in shas(items)]


def test_a_near_copy_of_a_held_out_picture_that_arrives_later_is_left_out(folder: FolderStore) -> None:
    pictures = several(40, seed=1)
    before = split(folder, put(folder, pictures))
    copies = [brighter(p) for p in pictures]
    assert distances(hashes(copies[:1]), hashes(pictures[:1]))[0] <= NEAR
    after = split(folder, put(folder, pictures + copies))
    assert shas(after.left_out) == {sha_of(brighter(p)) for p in of(pictures, before.held)}
    assert after.held == before.held
    assert any("4 pictures left out of the training" in line for line in after.remarks())


@pytest.mark.parametrize("copies", [1, 2, 6])
def test_no_held_out_picture_has_a_near_copy_that_is_trained_on(folder: FolderStore, copies: int) -> None:
    rng = np.random.default_rng(0)
    sharp = [picture for picture in several(50, seed=2) for _ in range(copies)]
    shots = [ImageEnhance.Brightness(p).enhance(rng.uniform(0.8, 1.0)) for p in sharp]
    manifest = put(folder, shots)
    parts = split(folder, manifest)
    check(manifest, parts)
    ours, theirs = hashes(of(shots, parts.held)), hashes(of(shots, parts.train))
    assert len(ours) >= FEWEST
    assert (distances(ours, theirs) > NEAR).all()
    assert len(parts.train) >= len(manifest.items) // 2


def test_pictures_that_are_all_near_copies_are_all_trained_on(folder: FolderStore) -> None:
    shots = [ImageEnhance.Brightness(noise(0)).enhance(1 - i / 200) for i in range(50)]
    parts = split(folder, put(folder, shots))
    assert (len(parts.train), len(parts.held)) == (50, 0)


class Interrupted(FolderStore):
    """Another process divides its own version between this one's reading and writing."""

    other: Manifest | None = None

    def swap(self, key: str, data: bytes, version: str | None) -> None:
        if self.other:
            other, self.other = self.other, None
            split(open_store(self.url), other)
        super().swap(key, data, version)


def test_two_processes_at_once_cannot_differ(folder: FolderStore, tmp_path: Path) -> None:
    pictures = several(80, seed=3)
    first, second = put(folder, pictures[:50]), put(folder, pictures[20:])
    store = Interrupted(tmp_path / "store")
    store.other = second
    ours, theirs = split(store, first), split(folder, second)
    assert split(folder, first) == ours
    assert shas(ours.held + theirs.held).isdisjoint(shas(ours.train + theirs.train))
    assert len(theirs.held) == 6


def test_a_training_is_named_by_what_is_held_out(folder: FolderStore, model: ModelConfig) -> None:
    pictures = several(40, seed=5)
    manifest = put(folder, pictures)
    request = TrainRequest(dataset=NAME, version=manifest.version)
    with pytest.raises(DatasetUnusable, match=f"dataset '{NAME}': model 'adire' subscribes to adire alone"):
        plan_training(installed(folder), model, request)
    model = model.model_copy(update={"datasets": ("adire", NAME)})
    plan = plan_training(installed(folder), model, request)
    assert plan_training(installed(folder), model, request) == plan
    pinned = request.model_copy(update={"base": "cloth/base@0f2b3c"})
    assert plan_training(installed(folder), model, pinned).base == "cloth/base@0f2b3c"
    sides = read_document(folder, Sides, f"datasets/{NAME}/sides.json")
    for version in ("train", "held", "left_out"):
        assert all(len(code) == 16 for code in getattr(sides, version).values())
    everything = sides.model_copy(update={"train": sides.train | sides.held, "held": {}})
    folder.write(f"datasets/{NAME}/sides.json", render(everything))
    assert plan_training(installed(folder), model, request).key != plan.key


def test_ten_thousand_pictures_are_divided_in_one_go() -> None:
    rng = np.random.default_rng(0)
    new = {hashlib.sha256(str(i).encode()).hexdigest(): rng.bytes(8).hex() for i in range(10_000)}
    sides = choose(Sides(), new, FEWEST, 1000)
    assert len(sides.held) == 1000
    assert not near(codes_of(sides.train.values()), codes_of(sides.held.values()), NEAR).any()
