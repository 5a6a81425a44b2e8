"""Tells rings from spirals without any network: a ring is the same at every angle, a spiral turns by one pitch a round.

Round a centre, a picture of rings goes with exp(i 2 pi r / pitch), one of spirals with exp(i (2 pi r / pitch - angle)):
the angular harmonics 0 and 1 of its polar unwrapping. Centre and pitch are searched for, the phase is left open.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from infra.base.world import Picture

HARMONICS = {"rings": (0,), "spirals": (1, -1)}
REACH = {"large": 0.5, "small": 0.25}  # of the figure round its centre, in picture widths
PITCHES = {"large": np.linspace(0.19, 0.255, 9), "small": np.linspace(0.145, 0.2, 9)}  # in picture widths
CENTRES = np.linspace(-0.09, 0.09, 10)  # in picture widths from the middle
FOUND = 0.75  # correlation under which a picture shows neither: real ones reach 0.83, other motifs at most 0.7

Reals = npt.NDArray[np.float32]
Waves = npt.NDArray[np.complex64]


@lru_cache(maxsize=12)
def _waves(size: str, harmonic: int, pixels: int) -> tuple[Waves, Reals]:
    """About each centre waves of norm 1 [centres, pitches, pixels^2], and the disc [centres, pixels^2] they live on."""
    axis = (np.arange(pixels) + 0.5) / pixels - 0.5
    v, u = np.meshgrid(axis, axis, indexing="ij")
    offsets = np.array([(x, y) for y in CENTRES for x in CENTRES])
    du, dv = (part.ravel() - offset[:, None] for part, offset in zip((u, v), offsets.T, strict=True))
    r, angle = np.hypot(du, dv), np.arctan2(dv, du)
    disc = (r < REACH[size]).astype(np.float32)
    turns = r[:, None] / PITCHES[size][:, None] - harmonic * angle[:, None] / (2 * np.pi)
    waves = np.exp(2j * np.pi * turns) * disc[:, None]
    waves -= disc[:, None] * (waves.sum(-1) / disc.sum(-1)[:, None])[..., None]
    waves /= np.linalg.norm(waves.real, axis=-1)[..., None]
    return waves.conj().astype(np.complex64), disc


def correlation(picture: Picture, motif: str, size: str) -> float:
    """How well `picture`, uint8 [n, n, 3], goes with rings or spirals of a size, in [0, 1]."""
    return max(_correlation(_contrast(picture), size, harmonic, len(picture)) for harmonic in HARMONICS[motif])


def _correlation(field: Reals, size: str, harmonic: int, pixels: int) -> float:
    """Of the best wave, its phase left open."""
    waves, disc = _waves(size, harmonic, pixels)
    spread = np.sqrt(np.maximum(disc @ field**2 - (disc @ field) ** 2 / disc.sum(-1), 1e-12))
    return min(1.0, float((np.abs(waves @ field.astype(np.complex64)) / spread[:, None]).max()))


def shown(picture: Picture, size: str) -> str:
    """What `picture` shows at that size: "rings", "spirals" or "neither"."""
    found = {motif: correlation(picture, motif, size) for motif in HARMONICS}
    best = max(found, key=lambda motif: found[motif])
    return best if found[best] >= FOUND else "neither"


def _contrast(picture: Picture) -> npt.NDArray[np.float32]:
    """The pixels along the colour axis on which they differ most, float32 [pixels^2]."""
    colours = picture.reshape(-1, 3).astype(np.float32)
    colours = colours - colours.mean(0)
    _, axes = np.linalg.eigh(colours.T @ colours)
    return np.asarray(colours @ axes[:, -1], np.float32)
