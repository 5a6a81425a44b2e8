"""Conversion of a picture's colours to sRGB, by littleCMS."""

import io
import struct
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from tasks.core.data.metadata import Coding, Metadata

Points = tuple[float, ...]  # CIE x, y of white, red, green and blue
D65 = (0.3127, 0.3290)
SRGB = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
PRIMARIES = {
    1: SRGB,
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
OWN_CURVE = 0.0  # instead of a gamma: the curve of sRGB
GAMMAS = {1: OWN_CURVE, 4: 2.2, 5: 2.8, 6: OWN_CURVE, 8: 1.0, 13: OWN_CURVE, 14: OWN_CURVE, 15: OWN_CURVE}
ADOBE_GAMMA = 563 / 256
NEAR_GAMMA = 0.05  # relative tolerance around 2.2 that is taken for sRGB, as in libpng
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D50 = np.array([0.9642, 1.0, 0.8249])


def to_srgb(picture: Image.Image, metadata: Metadata) -> tuple[Image.Image, list[str]]:
    """A picture of mode L, RGB or CMYK converted to sRGB, and notes on what was done beyond a plain conversion.

    sRGB values stay as they are; a profile that is damaged or for another colour space is ignored.
    """
    profile, source = _profile(metadata)
    if picture.mode == "CMYK":
        return _from_cmyk(picture, profile if metadata.icc else b"")
    if not profile:
        return as_rgb(picture), [f"{source} left out"] if source else []
    transform = _transform(profile, "L") if picture.mode == "L" else None
    if not transform:
        picture, transform = as_rgb(picture), _transform(profile, "RGB")
    if not transform:
        return picture, ["its damaged or foreign colour profile left out"]
    if _changes_nothing(transform, picture.mode):
        return as_rgb(picture), []
    return transform.apply(picture), [f"made sRGB by {source}"]


def as_rgb(picture: Image.Image) -> Image.Image:
    """The picture in RGB; itself, not a copy, if it is."""
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _profile(metadata: Metadata) -> tuple[bytes, str]:
    """The colour profile and its source; the precedence is that of PNG's third edition, section 12.1."""
    if metadata.coding and metadata.coding != (2, 2):
        return _coded(metadata.coding), f"its colour numbers {metadata.coding}"
    if metadata.icc:
        return metadata.icc, "its colour profile"
    if metadata.adobe_rgb:
        return icc_profile(ADOBE_RGB, ADOBE_GAMMA), "the Adobe RGB in its EXIF"
    if metadata.srgb or not metadata.gamma:
        return b"", ""
    exponent = 1 / metadata.gamma
    if not 0.1 < exponent < 10:
        return b"", f"its gamma of {exponent:g}"
    points = metadata.chromaticities if _is_triangle(metadata.chromaticities) else SRGB
    return icc_profile(points, OWN_CURVE if abs(exponent / 2.2 - 1) < NEAR_GAMMA else exponent), "its gamma"


def _coded(coding: Coding) -> bytes:
    """The profile of two code points of H.273; none for HDR transfer functions, which 8 bits cannot hold."""
    primaries, gamma = PRIMARIES.get(coding[0]), GAMMAS.get(coding[1])
    return b"" if primaries is None or gamma is None else icc_profile(primaries, gamma)


def _from_cmyk(picture: Image.Image, profile: bytes) -> tuple[Image.Image, list[str]]:
    if not profile:
        return picture.convert("RGB"), ["CMYK made RGB without a colour profile"]
    transform = _transform(profile, "CMYK")
    if not transform:
        unused = "CMYK made RGB without its damaged or foreign colour profile"
        return picture.convert("RGB"), [unused]
    return transform.apply(picture), ["CMYK made RGB by its colour profile"]


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile's colours to sRGB; None when it is damaged or for colours of another kind."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a grid over all colours is unchanged up to rounding: the profile is one of sRGB's variants."""
    steps = np.linspace(0, 255, 18).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(18, -1, 3)
    probe = Image.fromarray(grid if mode == "RGB" else grid[..., 0])
    changed = np.asarray(transform.apply(probe), np.int16) - np.asarray(probe.convert("RGB"))
    return bool(np.abs(changed).max() <= 1)


def icc_profile(points: Points, gamma: float) -> bytes:
    """An ICC profile of version 4 of a display with these primaries; its curve is a gamma, or `OWN_CURVE`."""
    numbers = (gamma,) if gamma else (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curve = struct.pack(">4s4xH2x", b"para", 0 if gamma else 3) + _fixed(numbers)
    tags = {b"wtpt": b"XYZ \0\0\0\0" + _fixed(D50)} | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), _colorants(points).T, strict=True):
        tags[name] = b"XYZ \0\0\0\0" + _fixed(column)
    table, data, begin = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, begin + len(data), len(value))
        data += value
    size = begin + len(data)
    head = struct.pack(">I4xI4s4s4s12x4s28x", size, 0x04300000, b"mntr", b"RGB ", b"XYZ ", b"acsp") + _fixed(D50)
    return head.ljust(128, b"\0") + table + data


def _colorants(points: Points) -> npt.NDArray[np.float64]:
    """XYZ of red, green and blue in columns [3, 3], adapted from their white to that of profiles (Bradford)."""
    white, *primaries = (np.array([x, y, 1 - x - y]) for x, y in zip(points[::2], points[1::2], strict=True))
    white = white / white[1]
    columns = np.array(primaries).T
    columns = columns * np.linalg.solve(columns, white)
    scale = (BRADFORD @ D50) / (BRADFORD @ white)
    return np.asarray(np.linalg.inv(BRADFORD) @ (scale[:, None] * (BRADFORD @ columns)))


def _is_triangle(points: Points) -> bool:
    """Whether white point and primaries are plausible for a display; a file may hold any numbers."""
    if len(points) != 8 or not all(0.001 < point < 1 for point in points):
        return False
    (rx, ry), (gx, gy), (bx, by) = zip(points[2::2], points[3::2], strict=True)
    return abs((gx - rx) * (by - ry) - (bx - rx) * (gy - ry)) > 0.01


def _fixed(numbers: Iterable[float]) -> bytes:
    """As signed fixed-point numbers of 16 bits and 16 more behind the point."""
    return b"".join(round(number * 65536).to_bytes(4, "big", signed=True) for number in numbers)
