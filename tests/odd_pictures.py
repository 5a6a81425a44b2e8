"""Pictures as printers, scanners and stitching programs deliver them; Pillow reads them all but writes only some."""

import io
import itertools
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

Wide = npt.NDArray[np.uint16]


def noise(seed: int, width: int = 48, height: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(picture: Image.Image, kind: str) -> bytes:
    """By a camera that was held turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture, kind, exif=exif)


def _png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(rows, 1), b"IEND": b""}
    parts = (
        struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_png(values: Wide) -> bytes:
    """A PNG of 16 bits a channel, from [height, width] in grey or [height, width, 3] in colours."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return _png(values.shape[1], values.shape[0], 16, 0 if values.ndim == 2 else 2, rows)


def vast_png(width: int, height: int) -> bytes:
    """A whole, black PNG of one bit a pixel: small as a file, vast in memory."""
    return _png(width, height, 1, 0, bytes((1 + (width + 7) // 8) * height))


def press_profile() -> bytes:
    """An ICC profile of a press whose cyan ink is red."""
    white, red, dark = (255, 128, 128), (136, 208, 195), (0, 128, 128)  # Lab, 8 bits
    inks = itertools.product((0, 1), repeat=4)  # C, M, Y, K
    grid = b"".join(bytes(dark if any(rest) else red if cyan else white) for cyan, *rest in inks)
    one = 1 << 16
    shape = struct.pack(">4s4xBBBx9i", b"mft1", 4, 3, 2, one, 0, 0, 0, one, 0, 0, 0, one)
    table = shape + bytes(range(256)) * 4 + grid + bytes(range(256)) * 3
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    d50 = struct.pack(">3i", 63190, 65536, 54061)
    size = 144 + len(table)
    header = struct.pack(">I4xI4s4s4s12x4s28x12s48x", size, 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp", d50)
    return header + tags + table
