"""The split of a dataset into training and held-out pictures: recorded once, by content, and never changed.

Trainings and evaluations both divide a version here, so that what is held out was seen by no model of the dataset.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tasks.core.data.dataset import ANY, Item, Manifest, blobs
from tasks.core.data.parallel import PIXELS, Room, in_order
from tasks.core.data.perceptual_hash import Codes, codes_of, hashes, named, near
from tasks.core.data.picture_validation import decoding
from tasks.core.data.remarks import remark
from tasks.core.errors import DatasetUnusable, ObjectMissing, StoreConflict
from tasks.core.store import Store
from tasks.core.store.documents import Document, digest, parse, revised

FEWEST = 4  # held-out pictures: fewer are no sample
SHARE = 10  # one in so many pictures is held out
NEAR = 4  # bits of 64 by which the perceptual hashes of near-copies differ at most

Named = Mapping[str, str]  # perceptual hashes in hexadecimal digits, by the sha256 of the picture's file
Flags = npt.NDArray[np.bool_]


class Sides(Document):
    """The sides of a dataset's pictures, each of which is on one; perceptual hashes by sha256."""

    train: dict[str, str] = Field(default_factory=dict)
    held: dict[str, str] = Field(default_factory=dict)
    left_out: dict[str, str] = Field(default_factory=dict)  # near-copies of held-out ones

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self.train or sha256 in self.held or sha256 in self.left_out


@dataclass(frozen=True)
class Split:
    """A dataset version by sides; `held` has at least `FEWEST` items, or none."""

    train: tuple[Item, ...]
    held: tuple[Item, ...]
    left_out: tuple[Item, ...]

    @cached_property
    def digest(self) -> str:
        """Digest of what is trained on and what is held out."""
        return digest(*(" ".join(item.sha256 for item in part) for part in (self.train, self.held)))

    def remarks(self) -> list[str]:
        """Lines for people: whether nothing is held out, and what is left out."""
        count = sum(map(len, (self.train, self.held, self.left_out)))
        lines = [] if self.held else [f"nothing is held out of {count} pictures: {CONSEQUENCE}"]
        names = [item.name for item in self.left_out]
        return lines + remark(names, "picture", "left out of the training as held out, or a near-copy of one that is")


CONSEQUENCE = (
    "the last LoRA is taken, not the best, nothing ends the training early, and the style is compared with training "
    f"pictures; a tenth is held out of {SHARE * FEWEST} pictures or more"
)


def split(store: Store, manifest: Manifest) -> Split:
    """Divide a version; the sides of pictures that have none yet are chosen, and recorded for good.

    Raises:
        DatasetUnusable: there is nothing to train on.
    """
    sides, items = _recorded(store, manifest), manifest.items
    held = tuple(item for item in items if item.sha256 in sides.held)
    held = held if len(held) >= FEWEST else ()
    train = tuple(item for item in items if item.sha256 in sides.train)
    if not train:
        problem = f"version {manifest.version} has only held-out pictures and near-copies of them; upload others"
        raise DatasetUnusable(manifest.dataset, problem)
    used = {item.sha256 for item in train + held}
    return Split(train, held, tuple(item for item in items if item.sha256 not in used))


def _recorded(store: Store, manifest: Manifest) -> Sides:
    """The sides, those of all pictures of the version among them."""
    key = f"datasets/{manifest.dataset}/sides.json"
    hashed: dict[str, str] = {}
    while True:
        sides, tag, written = _read(store, key)
        new = [item for item in manifest.items if item.sha256 not in sides]
        if tag is not None and not new:
            return sides
        hashed |= _hashed(store, manifest.dataset, (item for item in new if item.sha256 not in hashed))
        wanted = _wanted(len(manifest.items), sum(item.sha256 in sides.held for item in manifest.items))
        sides = choose(sides, {item.sha256: hashed[item.sha256] for item in new}, *wanted)
        try:
            store.swap(key, revised(written, sides), tag)
        except StoreConflict:  # another process has recorded sides: use them
            continue
        return sides


def forget_side(store: Store, dataset: str, sha256: str) -> None:
    """Remove a picture from the sides."""
    key = f"datasets/{dataset}/sides.json"
    while True:
        sides, tag, written = _read(store, key)
        if tag is None or sha256 not in sides:
            return
        parts = {part: dict(getattr(sides, part)) for part in ("train", "held", "left_out")}
        for part in parts.values():
            part.pop(sha256, None)
        with suppress(StoreConflict):  # another process has recorded sides: read them again
            store.swap(key, revised(written, Sides(**parts)), tag)
            store.purge([key], earlier=True)


def _read(store: Store, key: str) -> tuple[Sides, str | None, bytes]:
    """The sides, their version in the store, and how they were written."""
    try:
        data, tag = store.read_versioned(key)
    except ObjectMissing:
        return Sides(), None, b"{}"
    return parse(Sides, data, key), tag, data


def _wanted(count: int, held: int) -> tuple[int, int]:
    """The least (or none) and the most pictures to hold out in addition."""
    most = count // SHARE
    return (FEWEST - held, most - held) if most >= FEWEST else (1, 0)


def _hashed(store: Store, dataset: str, items: Iterable[Item]) -> dict[str, str]:
    room = Room(PIXELS)

    def code(item: Item) -> tuple[str, str]:
        ((_, data),) = blobs(store, dataset, (item,))
        with decoding(item.name, data, ANY, room) as (picture, _):
            return item.sha256, named(hashes([picture]))[0]

    return dict(in_order(code, items))


def choose(sides: Sides, new: Named, least: int, most: int) -> Sides:
    """Give new pictures their sides, by their content alone.

    Held out are first those with the fewest near-copies, and none with a near-copy that was trained on. What is held
    out and its near-copies, which are left out, make up at most half of what is new.

    Args:
        least: how many to hold out at least; none where that cannot be.
        most: how many to hold out at most.
    """
    order = np.array(sorted(new), dtype=object)
    codes = codes_of(new[sha256] for sha256 in order)
    copies = near(codes, codes_of(sides.held.values()), NEAR) > 0
    free = ~copies & (near(codes, codes_of(sides.train.values()), NEAR) == 0)
    picked = _pick(codes, free, most, len(order) // 2)
    held = np.isin(np.arange(len(order)), picked if len(picked) >= least else [])
    copies |= near(codes, codes[held], NEAR) > 0
    parts = {"train": ~copies, "held": held, "left_out": copies & ~held}
    return Sides(**{name: getattr(sides, name) | {s: new[s] for s in order[rows]} for name, rows in parts.items()})


def _pick(codes: Codes, free: Flags, most: int, room: int) -> list[int]:
    """Free rows that are no near-copies of each other; with their near-copies they are at most `room`."""
    picked: list[int] = []
    there = np.ones(len(codes), bool)
    for row in np.argsort(near(codes, codes, NEAR), kind="stable"):
        around = there & (near(codes, codes[row : row + 1], NEAR) > 0)
        if free[row] and there[row] and len(picked) < most and around.sum() <= room:
            picked.append(int(row))
            there &= ~around
            room -= int(around.sum())
    return picked
