"""Pictures as printers, scanners and stitching programs deliver them; Pillow reads them all but writes only some."""

import io
import itertools
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pillow_heif
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


def heic(picture: Image.Image, **info: object) -> bytes:
    """Lossless but for the conversion of colours; `info` may hold exif and icc_profile."""
    buffer = io.BytesIO()
    file = pillow_heif.from_pillow(picture)
    file.info.update({"icc_profile_type": "prof"} | info)
    file.save(buffer, quality=-1, chroma=444)
    return buffer.getvalue()


Entry = tuple[int, int, int, bytes]  # of EXIF: tag, type, count, the value or its offset


def tiff(*directories: tuple[Entry, ...], order: str = "<") -> bytes:
    """EXIF of directories one after another, each followed by 0 for "no next one"."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    whole = head + struct.pack(order + "I", 8)
    for entries in directories:
        rows = (struct.pack(order + "HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
        whole += struct.pack(order + "H", len(entries)) + b"".join(rows) + bytes(4)
    return whole


def adobe_exif(index: bytes = b"R03") -> bytes:
    """What a camera that is set to Adobe RGB writes."""
    second, third = 8 + 18, 8 + 18 + 30
    camera = ((0xA001, 3, 1, b"\xff\xff"), (0xA005, 4, 1, struct.pack("<I", third)))
    return tiff(((0x8769, 4, 1, struct.pack("<I", second)),), camera, ((1, 2, 4, index),))


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *others: bytes) -> bytes:
    """A PNG of rows that each start with 0, after further chunks."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(others) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    )


def with_chunks(data: bytes, *others: bytes) -> bytes:
    """A PNG with further chunks behind its header."""
    return data[:33] + b"".join(others) + data[33:]


def with_segments(data: bytes, *bodies: tuple[int, bytes]) -> bytes:
    """A JPEG with further segments at its begin, each a marker and what it holds."""
    parts = (bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in bodies)
    return data[:2] + b"".join(parts) + data[2:]


def deep_png(values: Wide, *others: bytes) -> bytes:
    """A PNG of 16 bits a channel, from [height, width] in grey or [height, width, 3] in colours."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, 0 if values.ndim == 2 else 2, rows, *others)


def vast_png(width: int, height: int) -> bytes:
    """A whole, black PNG of one bit a pixel: small as a file, vast in memory."""
    return png(width, height, 1, 0, bytes((1 + (width + 7) // 8) * height))


def press_profile() -> bytes:
    """An ICC profile of a press whose cyan ink is red."""
    white, red, dark = (255, 128, 128), (136, 208, 195), (0, 128, 128)  # Lab, 8 bits
    inks = itertools.product((0, 1), repeat=4)  # C, M, Y, K
    grid = b"".join(bytes(dark if any(rest) else red if cyan else white) for cyan, *rest in inks)
    one = 1 << 16
    shape = struct.pack(">4s4xBBBx9i", b"mft1", 4, 3, 2, one, 0, 0, 0, one, 0, 0, 0, one)
    table = shape + bytes(range(256)) * 4 + grid + bytes(range(256)) * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


DISPLAY_P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))  # as Apple's has it
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))  # as Adobe's has it
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))  # as HP's has it


def screen_profile(colorants: tuple[tuple[float, ...], ...], gamma: float = 0.0) -> bytes:
    """An ICC profile of version 2 from XYZ of red, green and blue; without a gamma its curve is a table of sRGB's."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags = {name: b"XYZ \0\0\0\0" + _fixed(*xyz) for name, xyz in zip(names, colorants, strict=True)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma)))


def grey_profile(gamma: float) -> bytes:
    """An ICC profile of version 2 for grey."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def _curve(gamma: float) -> bytes:
    if gamma:
        return struct.pack(">4s4xIH2x", b"curv", 1, round(gamma * 256))
    at = np.linspace(0, 1, 1024)
    table = np.where(at <= 0.04045, at / 12.92, ((at + 0.055) / 1.055) ** 2.4)
    return struct.pack(">4s4xI", b"curv", 1024) + (table * 65535).round().astype(">u2").tobytes()


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def _profile(kind: bytes, colours: bytes, between: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"wtpt": b"XYZ \0\0\0\0" + _fixed(0.9642, 1, 0.8249)} | tags
    table, data, begin = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, begin + len(data), len(value))
        data += value
    head = struct.pack(">I4xI4s4s4s12x4s28x", begin + len(data), 0x02400000, kind, colours, between, b"acsp")
    return (head + _fixed(0.9642, 1, 0.8249)).ljust(128, b"\0") + table + data
