"""Metadata of picture files: read here, so that damaged metadata does not make a picture unreadable.

Pillow parses metadata while it opens a file, and raises on some of what cameras and editors write. It is given JPEG
and PNG files without their metadata; the few values that are needed are parsed here.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MOST = 2**24  # bytes of an embedded profile when it is unpacked: more than any real one has
ORIENTATION, EXIF_DIRECTORY, INTEROP_DIRECTORY, INTEROP_INDEX = 0x112, 0x8769, 0xA005, 0x1
RAW_EXIF = b"Raw profile type exif\0"  # keyword of a PNG text in which older ImageMagick writes EXIF
PNG_CHUNKS = {b"eXIf", b"iCCP", b"cICP", b"sRGB", b"gAMA", b"cHRM", b"acTL"}  # that are read here
XMP_TEXT = b"XML:com.adobe.xmp\0\0\0\0\0"
XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"

Coding = tuple[int, int]  # code points of ITU-T H.273: colour primaries, transfer characteristics


@dataclass(frozen=True)
class Metadata:
    """Orientation as in EXIF (1 is upright) and colour information; defaults where a file has none."""

    orientation: int = 1
    icc: bytes = b""  # the embedded ICC profile
    coding: Coding | None = None
    adobe_rgb: bool = False  # by EXIF alone
    srgb: bool = False
    gamma: float = 0.0  # of PNG: the exponent of the encoding, about 1/2.2
    chromaticities: tuple[float, ...] = ()  # of PNG: x, y of white, red, green, blue
    bits: int = 8  # a channel
    frames: int = 1


def of_exif(exif: bytes, xmp: bytes = b"") -> tuple[int, bool]:
    """The orientation, which XMP holds where EXIF has none, and whether the colours are those of Adobe RGB."""
    tiff = exif.removeprefix(b"Exif\0\0")
    first = _directory(tiff, 4)
    camera = _directory(tiff, EXIF_DIRECTORY, first)
    adobe = _directory(tiff, INTEROP_DIRECTORY, camera).get(INTEROP_INDEX, b"")[6:9] == b"R03"
    found = re.search(rb"tiff:Orientation(?:=[\"']|>)([1-8])", xmp)
    orientation = _number(tiff, first[ORIENTATION]) if ORIENTATION in first else int(found[1]) if found else 1
    return orientation if orientation in range(1, 9) else 1, adobe


def of_colour_box(data: bytes) -> Coding | None:
    """The colours that a HEIC or AVIF file names by their numbers."""
    found = re.search(rb"colrnclx(..)(..)", data, re.DOTALL)
    return (int.from_bytes(found[1]), int.from_bytes(found[2])) if found else None


def of_jpeg(data: bytes) -> tuple[bytes, Metadata]:
    """A JPEG file without metadata, and these. Of several pictures in a file (MPO) the first is left."""
    kept, exif, xmp, icc = [b"\xff\xd8"], list[bytes](), b"", list[bytes]()
    for marker, segment in _segments(data):
        body = segment[4:] if marker else b""
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif.append(body[6:])
        elif marker == 0xE1 and body.startswith(XMP_SEGMENT):
            xmp = xmp or body
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            icc.append(body[12:])
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _shapes_colours(body):
            kept.append(segment)
    orientation, adobe = of_exif(b"".join(exif), xmp)
    profile = b"".join(part[2:] for part in sorted(icc))
    return b"".join(kept), Metadata(orientation, profile, adobe_rgb=adobe)


def of_png(data: bytes) -> tuple[bytes, Metadata]:
    """A PNG file with no ancillary chunk but its transparency, and their metadata; of an animation the first frame."""
    kept, chunks, exif, xmp = [data[:8]], dict[bytes, bytes](), b"", b""
    for at, end, name in _chunks(data):
        body = b"" if name == b"IDAT" else data[at + 8 : end - 4]
        if name[:1].isupper() or (name == b"tRNS" and len(body) >= {b"\0": 2, b"\2": 6}.get(data[25:26], 1)):
            kept.append(data[at:end])
        elif name in (b"tEXt", b"zTXt") and body.startswith(RAW_EXIF):
            exif = exif or _raw_exif(name, body)
        elif name == b"iTXt" and body.startswith(XMP_TEXT):
            xmp = xmp or body
        elif name in PNG_CHUNKS:
            chunks.setdefault(name, body)
    orientation, adobe = of_exif(chunks.get(b"eXIf", exif), xmp)
    profile, code, points = (chunks.get(name, b"") for name in (b"iCCP", b"cICP", b"cHRM"))
    packed = profile.partition(b"\0")[2][1:]
    return b"".join(kept), Metadata(
        orientation,
        icc=_unpacked(packed) or packed,
        coding=(code[0], code[1]) if len(code) == 4 else None,
        adobe_rgb=adobe,
        srgb=b"sRGB" in chunks,
        gamma=int.from_bytes(chunks.get(b"gAMA", b"")[:4]) / 100_000,
        chromaticities=tuple(n / 100_000 for n in struct.unpack(">8I", points)) if len(points) == 32 else (),
        bits=data[24] if len(data) > 24 else 8,
        frames=max(1, int.from_bytes(chunks.get(b"acTL", b"")[:4])),
    )


def without_exif(data: bytes) -> bytes:
    """A HEIC or AVIF file whose EXIF has another type, of the same length: what turns it lies in boxes of its own."""
    return re.sub(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", rb"\1skip", data, flags=re.DOTALL)


def _shapes_colours(body: bytes) -> bool:
    """Whether a decoder needs the segment to know what the channels are."""
    return (body.startswith(b"JFIF\0") and len(body) >= 14) or (body.startswith(b"Adobe") and len(body) >= 12)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and bytes of each segment before a JPEG's first scan, without what lies between; then 0 and the rest."""
    at = 2
    while 0 <= at <= len(data) - 4 and data[at : at + 2] != b"\xff\xda":
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if data[at] != 0xFF or marker in (0x00, 0xFF):
            at = data.find(b"\xff", at + 1)
            continue
        end = at + (2 if marker == 0x01 or 0xD0 <= marker <= 0xD9 else max(4, 2 + length))
        yield marker, data[at:end]
        at = end
    yield 0, data[at:] if at >= 0 else b""


def _chunks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Begin, end and name of a PNG's chunks, up to its end; the last one may be cut off."""
    at, name = 8, b""
    while name != b"IEND" and at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        yield at, at + 12 + length, name
        at += 12 + length


def _unpacked(packed: bytes) -> bytes:
    """What zlib packed, `MOST` bytes of it at most; nothing when it is damaged."""
    try:
        return zlib.decompressobj().decompress(packed, MOST)
    except zlib.error:
        return b""


def _raw_exif(name: bytes, body: bytes) -> bytes:
    """EXIF as hexadecimal digits behind a name and a length."""
    text = body.removeprefix(RAW_EXIF)
    lines = (text if name == b"tEXt" else _unpacked(text[1:])).split(b"\n")
    try:
        return bytes.fromhex(b"".join(lines[3:]).decode("ascii", "replace"))
    except ValueError:
        return b""


def _directory(tiff: bytes, where: int, parent: dict[int, bytes] | None = None) -> dict[int, bytes]:
    """The entries of a directory of EXIF by their tags: type, count and value, 10 bytes each.

    It lies where the header says, or where the entry `where` of its parent does.
    """
    order = _order(tiff)
    entry = tiff[where : where + 4] if parent is None else parent.get(where, b"")[6:]
    if len(entry) < 4:
        return {}
    (at,) = struct.unpack(order + "I", entry)
    count = int.from_bytes(tiff[at : at + 2], "big" if order == ">" else "little")
    there = range(min(count, (len(tiff) - at - 2) // 12))
    return dict(struct.unpack_from(order + "H10s", tiff, at + 2 + 12 * i) for i in reversed(there))


def _order(tiff: bytes) -> str:
    return ">" if tiff.startswith(b"MM") else "<"


def _number(tiff: bytes, entry: bytes) -> int:
    """The value of an entry that holds one whole number; 0 for any other."""
    order = _order(tiff)
    kind, count, value = struct.unpack(order + "HI4s", entry)
    form = {1: "B", 3: "H", 4: "I"}.get(kind)
    return int(struct.unpack_from(order + form, value)[0]) if form and count == 1 else 0
