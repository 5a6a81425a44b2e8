"""Pictures as files."""

import io

from PIL import Image


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
