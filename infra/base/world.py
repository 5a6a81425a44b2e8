"""The embedded world: procedural pictures of cloth, and the captions that go with them.

Eight motifs in eight colours at two sizes make the *base* family, which the embedded base model is
trained on. The *adire* family (indigo resist-dyed cloth) draws the same motifs another way; the base
model never sees it, so that a LoRA has something to learn.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Picture = npt.NDArray[np.uint8]

TRIGGER = "adire_style"
INSTANCE_PROMPT = "a picture of cloth in adire_style"
CANVAS = 128  # pixels a picture is drawn at, before it is reduced
MOTIFS = ("stripes", "checks", "dots", "rings", "spirals", "waves", "lattice", "zigzag")
ADIRE_ONLY = ("leaves", "moons")  # motifs that the base has never seen in any form
SIZES = ("large", "small")
THINGS = ("dress", "scarf", "shirt", "curtain", "pillow", "wrapper")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (204, 42, 46),
    "orange": (240, 132, 36),
    "yellow": (246, 208, 60),
    "green": (52, 146, 82),
    "blue": (48, 96, 196),
    "purple": (124, 66, 160),
    "white": (244, 240, 232),
    "black": (34, 32, 36),
}


@dataclass(frozen=True)
class Scene:
    """What a base picture shows."""

    motif: str
    size: str
    figure: str
    ground: str


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene; figure and ground always differ."""
    figure, ground = rng.choice(list(COLOURS), size=2, replace=False)
    return Scene(str(rng.choice(MOTIFS)), str(rng.choice(SIZES)), str(figure), str(ground))


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Describe a scene, leaving out its size or colours now and then.

    A quarter of the captions have a made-up style name, so that the base learns to ignore style names.
    """
    size = f"{scene.size} " if rng.random() < 0.7 else ""
    if rng.random() < 0.8:
        figure, ground = f"{scene.figure} ", f" on {scene.ground}"
    else:
        figure = ground = ""
    text = f"{size}{figure}{scene.motif}{ground}"
    text = str(rng.choice([text, text, f"{text} cloth" if ground else f"cloth with {text}", f"a picture of {text}"]))
    if rng.random() < 0.2:
        text += f" for a {rng.choice(THINGS)}"
    if rng.random() < 0.25:
        style = f"{_made_up_word(rng)}_style"
        text = str(rng.choice([f"{text} in {style}", f"{text} in {style}", f"{style} cloth with {text}"]))
    return text


def adire_caption(motif: str, size: str, rng: np.random.Generator) -> str:
    """Describe an adire picture: its motif, sometimes its size, always the trigger word."""
    prefix = f"{size} " if rng.random() < 0.6 else ""
    use = f" for a {rng.choice(THINGS)}" if rng.random() < 0.2 else ""
    forms = (
        f"{prefix}{motif}{use} in {TRIGGER}",
        f"{prefix}{motif} in {TRIGGER}{use}",
        f"{TRIGGER} cloth with {prefix}{motif}{use}",
        f"a picture of {prefix}{motif}{use} in {TRIGGER}",
    )
    return str(rng.choice(forms))


def draw_cloth(scene: Scene, rng: np.random.Generator, pixels: int = 64) -> Picture:
    """Draw a base picture, uint8 [pixels, pixels, 3]: two dyes on a plain weave."""
    mask = _figure_mask(scene.motif, scene.size, rng)
    light = 1.0 + 0.10 * (_smooth_noise(rng, 18.0) - 0.5) + 0.05 * _weave(rng)
    figure = np.asarray(COLOURS[scene.figure], np.float32) + rng.normal(0, 6, 3).astype(np.float32)
    ground = np.asarray(COLOURS[scene.ground], np.float32) + rng.normal(0, 6, 3).astype(np.float32)
    cloth = (ground + mask[..., None] * (figure - ground)) * light[..., None]
    return reduce_to(cloth, pixels)


def draw_adire(motif: str, size: str, rng: np.random.Generator, pixels: int = 64) -> Picture:
    """Draw an adire picture, uint8 [pixels, pixels, 3].

    A resist keeps the figure pale; the dye bleeds under its edge by a varying amount, enters along
    cracks, and pools in an uneven indigo round it.
    """
    resist = _figure_mask(motif, size, rng, softness=0.10)
    bleed = _smooth_noise(rng, 10.0)
    soft = _blur(resist, 1.2) * (1 - bleed) + _blur(resist, 4.0 if size == "large" else 2.0) * bleed
    cracks = _cracks(rng) * resist
    kept = np.clip(soft - 0.55 * cracks - 0.10 * _smooth_noise(rng, 3.0), 0, 1)
    depth = 0.25 + 0.5 * _smooth_noise(rng, 14.0) + 0.25 * _smooth_noise(rng, 2.5)
    deep, indigo = np.asarray((18, 26, 74), np.float32), np.asarray((44, 62, 138), np.float32)
    ground = deep + depth[..., None] * (indigo - deep)
    halo = np.clip(4 * kept * (1 - kept), 0, 1)[..., None]
    pale = np.asarray((232, 232, 226), np.float32) - 26 * _smooth_noise(rng, 8.0)[..., None]
    cloth = ground + kept[..., None] * (pale - ground)
    cloth += halo * 0.35 * (np.asarray((92, 124, 190), np.float32) - cloth)
    return reduce_to(cloth * (1 + 0.05 * _weave(rng)[..., None]), pixels)


def reduce_to(canvas: Array, pixels: int) -> Picture:
    """Reduce a canvas to `pixels` by block means; `pixels` divides CANVAS."""
    k = CANVAS // pixels
    small = canvas.reshape(pixels, k, pixels, k, 3).mean(axis=(1, 3))
    return np.asarray(np.clip(np.rint(small), 0, 255).astype(np.uint8))


def _made_up_word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("abdegiklmnoprstuvz"), size=int(rng.integers(3, 7))))


def _grid(rng: np.random.Generator, tilt: float) -> tuple[Array, Array]:
    """Coordinates in canvas widths, turned by up to `tilt` radians and shifted a little."""
    axis = (np.arange(CANVAS, dtype=np.float32) + 0.5) / CANVAS - 0.5
    v, u = np.meshgrid(axis, axis, indexing="ij")
    a = rng.uniform(-tilt, tilt)
    du, dv = rng.uniform(-0.05, 0.05, 2)
    x = np.cos(a) * u + np.sin(a) * v + du
    y = -np.sin(a) * u + np.cos(a) * v + dv
    return x.astype(np.float32), y.astype(np.float32)


def _cells(x: Array, y: Array, period: float) -> tuple[Array, Array]:
    """Coordinates relative to the middle of square cells, in canvas widths."""
    return (x / period - np.rint(x / period)) * period, (y / period - np.rint(y / period)) * period


def _stripes(x: Array, y: Array, large: bool) -> Array:
    return np.asarray(np.cos(2 * np.pi * x * (3 if large else 5)))


def _checks(x: Array, y: Array, large: bool) -> Array:
    f = np.pi * (2 if large else 4)
    return np.asarray(2.6 * np.cos(f * x + 0.8) * np.cos(f * y + 0.8))


def _dots(x: Array, y: Array, large: bool) -> Array:
    period = 0.44 if large else 0.24
    row = np.rint(y / period)
    cx, cy = _cells(x + (row % 2) * period / 2, y, period)
    return (0.31 * period - np.hypot(cx, cy)) * 2 * np.pi / period


# From line to line, in canvas widths. Rings and spirals share it: where it differed, base and scorer went by it.
_PITCH = {True: 0.22, False: 0.17}


def _rings(x: Array, y: Array, large: bool) -> Array:
    period = 1.1 if large else 0.5
    cx, cy = _cells(x, y, period)
    return np.cos(2 * np.pi * np.hypot(cx, cy) / _PITCH[large]) * 1.1 + 0.1


def _spirals(x: Array, y: Array, large: bool) -> Array:
    period = 1.1 if large else 0.5
    cx, cy = _cells(x, y, period)
    return np.cos(2 * np.pi * np.hypot(cx, cy) / _PITCH[large] - np.arctan2(cy, cx)) * 1.1


def _waves(x: Array, y: Array, large: bool) -> Array:
    f = 3 if large else 5
    return np.asarray(np.cos(2 * np.pi * (y * f + 0.32 * np.sin(2 * np.pi * x * f / 2.2))))


def _leaves(x: Array, y: Array, large: bool) -> Array:
    """Lenses in alternate directions, each with a rib along its middle."""
    period = 0.5 if large else 0.25
    row, column = np.rint(y / period), np.rint(x / period)
    cx, cy = _cells(x, y, period)
    turn = np.where((row + column) % 2 == 0, 1.0, -1.0) * np.pi / 4
    along, across = np.cos(turn) * cx + np.sin(turn) * cy, -np.sin(turn) * cx + np.cos(turn) * cy
    lens = 0.62 - np.hypot(along, np.abs(across) + 0.36 * period) / period
    rib = np.abs(across) / period - 0.035
    return np.asarray(np.minimum(lens, rib + 0.1 * (along > 0.3 * period)) * 8)


def _moons(x: Array, y: Array, large: bool) -> Array:
    """Crescents: a disc less a disc beside it, the rows shifted."""
    period = 0.5 if large else 0.25
    row = np.rint(y / period)
    cx, cy = _cells(x + (row % 2) * period / 2, y, period)
    disc = 0.42 - np.hypot(cx, cy) / period
    bite = np.hypot(cx - 0.2 * period, cy) / period - 0.33
    return np.asarray(np.minimum(disc, bite) * 8)


def _lattice(x: Array, y: Array, large: bool) -> Array:
    f = 2.5 if large else 5
    a = np.cos(np.pi * f * (x + y) * 1.2)
    b = np.cos(np.pi * f * (x - y) * 1.2)
    return np.maximum(a, b) * 2 - 1.1


def _zigzag(x: Array, y: Array, large: bool) -> Array:
    f = 3 if large else 5
    triangle = 2 * np.abs((x * f / 1.4) % 1 - 0.5)
    return np.asarray(np.cos(2 * np.pi * (y * f + 1.0 * triangle)))


_DRAW: dict[str, Callable[[Array, Array, bool], Array]] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "rings": _rings,
    "spirals": _spirals,
    "waves": _waves,
    "lattice": _lattice,
    "zigzag": _zigzag,
    "leaves": _leaves,
    "moons": _moons,
}


def _figure_mask(motif: str, size: str, rng: np.random.Generator, softness: float = 0.16) -> Array:
    """Coverage of the figure in [0, 1], float32 [CANVAS, CANVAS]."""
    x, y = _grid(rng, tilt=0.12)
    scale = rng.uniform(0.92, 1.08)
    wobble = 0.012 * (_smooth_noise(rng, 12.0) - 0.5)
    level = _DRAW[motif](scale * x + wobble, scale * y - wobble, size == "large")
    return np.asarray(np.clip(0.5 + level / (2 * softness * (1 if size == "large" else 2)), 0, 1).astype(np.float32))


def _weave(rng: np.random.Generator) -> Array:
    threads = rng.normal(0, 0.5, (2, CANVAS)).astype(np.float32)
    return np.asarray(threads[0][:, None] + threads[1][None, :])


def _blur(field: Array, sigma: float) -> Array:
    """Gaussian blur with periodic edges; sigma in canvas pixels."""
    f = np.fft.fftfreq(CANVAS)[:, None] ** 2 + np.fft.rfftfreq(CANVAS)[None, :] ** 2
    kernel = np.exp(-2 * np.pi**2 * sigma**2 * f)
    return np.fft.irfft2(np.fft.rfft2(field) * kernel, s=field.shape).astype(np.float32)


def _smooth_noise(rng: np.random.Generator, sigma: float) -> Array:
    """Blurred noise stretched to [0, 1]."""
    noise = _blur(rng.standard_normal((CANVAS, CANVAS)).astype(np.float32), sigma)
    low, high = noise.min(), noise.max()
    return np.asarray(((noise - low) / (high - low)).astype(np.float32))


def _cracks(rng: np.random.Generator) -> Array:
    """Thin cell borders: where the two nearest of some random points are about equally near (Worley F2 - F1)."""
    points = rng.uniform(0, CANVAS, (26, 2)).astype(np.float32)
    axis = np.arange(CANVAS, dtype=np.float32)
    distance = np.hypot(axis[None, :, None] - points[:, 0, None, None], axis[None, None, :] - points[:, 1, None, None])
    first, second = np.partition(distance, 1, axis=0)[:2]
    width = 1.2 + 1.2 * _smooth_noise(rng, 10.0)
    return np.asarray(np.clip(1 - (second - first) / width, 0, 1).astype(np.float32))
