"""Pictures that are copies, by perceptual hashes."""

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
import numpy.typing as npt
from PIL import Image

Hashes = npt.NDArray[np.bool_]  # [n, 64]
Codes = npt.NDArray[np.uint64]  # the same as numbers [n]
ROWS = 256  # that are compared with all others at once
SIDE = 32  # pixels that a picture is reduced to before its hash is taken
FAINT = 1.0  # standard deviation, of 255, under which the rest is rounding error


def hashes(pictures: list[Image.Image]) -> Hashes:
    """Perceptual hashes, bool [n, 64]: which of the 8 x 8 lowest frequencies are above their median.

    The DCT hash of Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1:
    brightness at 32 x 32, two-dimensional DCT-II, its coefficients [1, 8] x [1, 8]. A fine pattern vanishes
    at that size, so that all would be copies of each other: its hash is one of its bytes.
    """
    return np.array([_hash(picture) for picture in pictures], bool).reshape(len(pictures), 64)


def _hash(picture: Image.Image) -> Hashes:
    small = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float64)
    if small.std() < FAINT:
        return np.unpackbits(np.frombuffer(sha256(picture.tobytes()).digest()[:8], np.uint8)).astype(bool)
    low = (_WAVES @ small @ _WAVES.T).ravel()
    return np.asarray(low > np.median(low))


def distances(ours: Hashes, theirs: Hashes) -> npt.NDArray[np.int64]:
    """Bits by which each of ours differs from the nearest of theirs, int64 [n]; 64 where there are none."""
    if not len(theirs):
        return np.full(len(ours), 64)
    return np.asarray((ours[:, None] != theirs[None]).sum(-1).min(1))


def named(of: Hashes) -> list[str]:
    """The hashes as 16 hexadecimal digits each."""
    return [row.tobytes().hex() for row in np.packbits(of, axis=1)]


def codes_of(names: Iterable[str]) -> Codes:
    """Hashes that were named, as 64 bits each."""
    return np.frombuffer(bytes.fromhex("".join(names)), np.uint64)


def near(ours: Codes, theirs: Codes, bits: int) -> npt.NDArray[np.int64]:
    """How many of theirs differ from each of ours by at most so many bits, int64 [n]."""
    parts = (ours[start : start + ROWS, None] ^ theirs[None] for start in range(0, len(ours), ROWS))
    counts = [(np.bitwise_count(part) <= bits).sum(1) for part in parts]
    return np.concatenate([np.zeros(0, np.int64), *counts])


def distinct(of: Hashes, bits: int) -> list[int]:
    """The rows that are no copies of an earlier one."""
    kept: list[int] = []
    for row in range(len(of)):
        if distances(of[row : row + 1], of[kept])[0] > bits:
            kept.append(row)
    return kept


_WAVES = np.cos(np.pi * np.arange(1, 9)[:, None] * (2 * np.arange(SIDE)[None] + 1) / (2 * SIDE))
