"""Pictures as they arrive: decoded, checked, turned upright."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.core.errors import PictureRefused
from tasks.core.specs import IngestSpec

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FORMATS = ("JPEG", "PNG", "WEBP")


def decode(name: str, data: bytes, spec: IngestSpec) -> Image.Image:
    """The picture in RGB, upright by its EXIF; raises PictureRefused with the reason."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            if opened.width * opened.height > spec.max_pixels:
                raise PictureRefused(name, f"{opened.width} x {opened.height} is more than {spec.max_pixels} pixels")
            opened.load()
            upright = ImageOps.exif_transpose(opened)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureRefused(name, f"cannot be decoded: {error}") from error
    picture = _on_white(upright)
    if min(picture.size) < spec.min_side:
        raise PictureRefused(name, f"{picture.width} x {picture.height} is smaller than {spec.min_side} pixels")
    if np.asarray(picture.resize((32, 32))).std(axis=(0, 1)).max() < 1.0:
        raise PictureRefused(name, "shows nothing: all of it has one colour")
    return picture


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits: Pillow's own conversion clips nearly all of it to white
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    seen = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")


def square(picture: Image.Image, side: int) -> Image.Image:
    """The middle of the picture as a square of `side` pixels."""
    return ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)
