"""Pictures as they arrive: decoded, checked, made RGB, turned upright."""

import io

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from tasks.core.errors import PictureRefused
from tasks.core.specs import IngestSpec

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FORMATS = ("JPEG", "PNG", "WEBP")
FOREIGN = {"1": "black and white", "L": "grey", "LA": "grey", "I;16": "grey", "P": "palette"}

Image.MAX_IMAGE_PIXELS = None  # IngestSpec.max_pixels is the limit; Pillow's own would speak first, in other words


def examine(name: str, data: bytes, spec: IngestSpec) -> str:
    """How `decode` changes the picture ("" if it does not); raises PictureRefused when it may not enter a dataset."""
    picture, changes = _read(name, data, spec)
    if max(picture.size) > spec.max_aspect * min(picture.size):
        shape = f"{picture.width} x {picture.height}"
        raise PictureRefused(name, f"{shape} is more than {spec.max_aspect:g} times as long as wide; crop it")
    return ", ".join(changes)


def decode(name: str, data: bytes, spec: IngestSpec) -> Image.Image:
    """The picture in RGB, upright by its EXIF; raises PictureRefused with the reason."""
    return _read(name, data, spec)[0]


def _read(name: str, data: bytes, spec: IngestSpec) -> tuple[Image.Image, list[str]]:
    upright, changes = _open(name, data, spec)
    picture, conversions = _rgb(upright)
    if np.asarray(picture.resize((32, 32))).std(axis=(0, 1)).max() < 1.0:
        raise PictureRefused(name, "shows nothing: all of it has one colour")
    return picture, conversions + changes


def _open(name: str, data: bytes, spec: IngestSpec) -> tuple[Image.Image, list[str]]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            _check_size(name, opened.width, opened.height, spec)
            opened.load()
            deep = opened.format == "PNG" and data[24] == 16  # its header's bit depth; Pillow opens colours as 8 bits
            turned = opened.getexif().get(Base.Orientation) in range(2, 9)
            upright = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError as error:
        raise PictureRefused(name, "cannot be decoded: it is no JPEG, PNG or WebP picture") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureRefused(name, f"cannot be decoded: {error}") from error
    return upright, ["16 bits a channel cut to 8"] * deep + ["turned upright by its EXIF"] * turned


def _check_size(name: str, width: int, height: int, spec: IngestSpec) -> None:
    if width * height > spec.max_pixels:
        raise PictureRefused(name, f"{width} x {height} is more than {spec.max_pixels} pixels")
    if min(width, height) < spec.min_side:
        raise PictureRefused(name, f"{width} x {height} is smaller than {spec.min_side} pixels")


def _rgb(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    if picture.mode == "CMYK":
        return _from_cmyk(picture)
    changes = [f"{FOREIGN[picture.mode]} made RGB"] if picture.mode in FOREIGN else []
    if picture.mode.startswith("I"):  # 16 bits: Pillow's own conversion clips nearly all of it to white
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB"), changes
    seen = picture.convert("RGBA")
    white = Image.new("RGBA", seen.size, "white")
    return Image.alpha_composite(white, seen).convert("RGB"), [*changes, "transparency laid on white"]


def _from_cmyk(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    embedded = picture.info.get("icc_profile")
    if not embedded:
        return picture.convert("RGB"), ["CMYK made RGB without a colour profile"]
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    except (ImageCms.PyCMSError, OSError):
        return picture.convert("RGB"), ["CMYK made RGB without its colour profile, which is damaged"]
    return transform.apply(picture), ["CMYK made RGB by its colour profile"]


def square(picture: Image.Image, side: int) -> Image.Image:
    """The middle of the picture as a square of `side` pixels."""
    return ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)
