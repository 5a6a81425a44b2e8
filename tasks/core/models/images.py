"""Checks for blank pictures, and their encodings."""

import io

import numpy as np
from PIL import Image

NAN = "not a number"  # in the `info` of a picture that the model did not finish; it is black then
SPREAD = 2.0  # standard deviation of the brightness, of 255, under which a picture is blank
DARK = 16  # mean brightness, of 255, under which such a picture is called black


def image_fault(picture: Image.Image) -> str:
    """Why a picture is blank; empty when it is not."""
    if NAN in picture.info:
        return "not a number"
    bands = np.asarray(picture.convert("RGB"), np.float64)
    if bands.std(axis=(0, 1)).max() >= SPREAD:
        return ""
    return "black" if bands.mean() < DARK else "of one colour"


def png(picture: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def light(grid: bytes) -> bytes:
    """A PNG as WebP of a tenth of its size, for pages that keep it in a database."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(grid)) as opened:
        opened.convert("RGB").save(buffer, "WEBP", quality=85)
    return buffer.getvalue()
