"""Nothing that a file says beside its pixels costs the picture, and it is turned upright all the same."""

import struct
import zlib
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.core.config.presets import IngestSpec
from tasks.core.data.metadata import of_exif
from tasks.core.data.picture_validation import decode, examine
from tasks.core.errors import PictureRefused
from tests.odd_pictures import (
    DISPLAY_P3,
    adobe_exif,
    chunk,
    encoded,
    heic,
    noise,
    png,
    screen_profile,
    tiff,
    with_chunks,
    with_segments,
)

SPEC = IngestSpec(min_side=16)
TALL = noise(0, 16, 24)
PLAIN = {kind: encoded(TALL, kind) for kind in ("JPEG", "PNG", "WEBP")}
TURNED = (0x112, 3, 1, b"\6\0")
RATIONAL = (0x11A, 10, 1, struct.pack("<I", 38))  # behind the directory of two entries
LOOP = (0x8769, 4, 1, struct.pack("<I", 8))  # the camera's directory is the first one again
BEYOND = (0x8769, 4, 1, b"\xff\xff\xff\xff")


def carrying(kind: str, exif: bytes) -> bytes:
    """The tall picture with this EXIF."""
    if kind == "JPEG":
        return with_segments(PLAIN[kind], (0xE1, b"Exif\0\0" + exif))
    return with_chunks(PLAIN[kind], chunk(b"eXIf", exif)) if kind == "PNG" else encoded(TALL, kind, exif=exif)


def size_of(data: bytes) -> tuple[int, int]:
    return decode("a", data, SPEC).size


def test_the_picture_that_ended_every_ingest_is_turned_upright() -> None:
    exif = tiff((RATIONAL, TURNED)) + struct.pack("<iI", -1, 0)
    data = with_segments(encoded(noise(0, 64, 96), "JPEG"), (0xE1, b"Exif\0\0" + exif))
    assert size_of(data) == (96, 64)
    assert examine("a", data, SPEC) == "turned upright by its EXIF"


TREES = {
    "a loop": tiff((TURNED, LOOP)),
    "beyond the end": tiff((TURNED, BEYOND)),
    "big end first": tiff(((0x112, 3, 1, b"\0\6"),), order=">"),
    "a long number": tiff(((0x112, 4, 1, b"\6\0\0\0"),)),
    "one byte": tiff(((0x112, 1, 1, b"\6"),)),
    "more entries than there are": tiff((TURNED,)).replace(b"\1\0\x12\1", b"\xff\xff\x12\1"),
    "twice, the first counts": tiff((TURNED, (0x112, 3, 1, b"\1\0"))),
}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("name", TREES)
def test_an_odd_directory_still_turns_the_picture(name: str, kind: str) -> None:
    assert size_of(carrying(kind, TREES[name])) == (24, 16)


USELESS = {
    "nothing": b"",
    "no header": b"Exif" * 9,
    "cut off": tiff((TURNED,))[:14],
    "zero": tiff(((0x112, 3, 1, b"\0\0"),)),
    "nine": tiff(((0x112, 3, 1, b"\x09\0"),)),
    "a text": tiff(((0x112, 2, 4, b"six"),)),
    "two numbers": tiff(((0x112, 3, 2, b"\6\0\6\0"),)),
    "nowhere": b"II*\0\xff\xff\xff\xff" + bytes(8),
}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("name", USELESS)
def test_an_orientation_that_is_none_turns_nothing(name: str, kind: str) -> None:
    assert size_of(carrying(kind, USELESS[name])) == (16, 24)


CORNERS = {1: "abcd", 2: "badc", 3: "dcba", 4: "cdab", 5: "acbd", 6: "cadb", 7: "dbca", 8: "bdac"}


@pytest.mark.parametrize("orientation", CORNERS)
def test_each_orientation_brings_the_corners_to_their_place(orientation: int) -> None:
    colours = {"a": (250, 0, 0), "b": (0, 250, 0), "c": (0, 0, 250), "d": (250, 250, 0)}
    corners = np.array([[colours["a"], colours["b"]], [colours["c"], colours["d"]]], np.uint8)
    data = encoded(Image.fromarray(corners.repeat(8, 0).repeat(8, 1)))
    exif = tiff(((0x112, 3, 1, bytes([orientation, 0])),))
    decoded = decode("a", with_chunks(data, chunk(b"eXIf", exif)), SPEC)
    found = [decoded.getpixel(place) for place in ((4, 4), (12, 4), (4, 12), (12, 12))]
    assert found == [colours[corner] for corner in CORNERS[orientation]]


def mutated() -> Iterator[bytes]:
    """Three directories of which one entry after another has another type, count or value; cut off anywhere too."""
    whole, entries = adobe_exif(), (10, 28, 40, 58)
    tags, counts, values = (0x112, 0x8769, 0xA005, 1, 0x11A), (0, 1, 2**32 - 1), (0, 1, 6, 8, 255, 2**15, 2**16 - 1)
    for at, tag, kind, count, value in product(entries, tags, range(14), counts, values):
        yield whole[:at] + struct.pack("<HHIHH", tag, kind, count, value, 0) + whole[at + 12 :]
    yield from (whole[:end] for end in range(len(whole)))


def test_no_mutation_of_a_tag_raises() -> None:
    variants = list(mutated())
    assert len(variants) > 5800
    orientations = [of_exif(exif)[0] for exif in variants]
    assert set(orientations) == {1, 6, 8}
    for exif, orientation in list(zip(variants, orientations, strict=True))[::10]:
        assert size_of(carrying("JPEG", exif)) == ((24, 16) if orientation > 4 else (16, 24))


@seed(0)
@settings(max_examples=150, deadline=None, database=None)
@given(st.sampled_from([0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xEF, 0xFE]), st.binary(max_size=40), st.integers(0, 5))
def test_no_segment_of_a_jpeg_costs_the_picture(marker: int, body: bytes, kind: int) -> None:
    names = (b"", b"Exif\0\0", b"ICC_PROFILE\0", b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\x008BIM", b"MPF\0")
    data = with_segments(PLAIN["JPEG"], (marker, names[kind] + body))
    assert sorted(size_of(data)) == [16, 24]


@seed(0)
@settings(max_examples=150, deadline=None, database=None)
@given(
    st.sampled_from(
        [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"acTL"]
    ),
    st.binary(max_size=40),
)
def test_no_chunk_of_a_png_costs_the_picture(name: bytes, body: bytes) -> None:
    assert sorted(size_of(with_chunks(PLAIN["PNG"], chunk(name, body)))) == [16, 24]


BOMB = zlib.compress(bytes(2**25), 9)


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"zTXt", b"Comment\0\0" + BOMB),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + BOMB),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB),
        chunk(b"tEXt", b"Comment\0" + bytes(2**22)),
    ],
    ids=["zTXt", "iTXt", "raw exif", "tEXt"],
)
def test_long_texts_of_a_png_are_not_unpacked(bomb: bytes) -> None:
    assert examine("a", with_chunks(PLAIN["PNG"], bomb), SPEC) == ""


def test_a_profile_that_unpacks_without_end_is_left_out() -> None:
    data = with_chunks(PLAIN["PNG"], chunk(b"iCCP", b"bomb\0\0" + BOMB))
    assert examine("a", data, SPEC) == "its damaged or foreign colour profile left out"


def test_a_profile_in_parts_is_put_together() -> None:
    profile = screen_profile(DISPLAY_P3)
    third = len(profile) // 3 + 1
    parts = [(0xE2, b"ICC_PROFILE\0" + bytes([i + 1, 3]) + profile[i * third :][:third]) for i in range(3)]
    for order in ((0, 1, 2), (2, 0, 1)):
        data = with_segments(PLAIN["JPEG"], *(parts[i] for i in order))
        assert examine("a", data, SPEC) == "made sRGB by its colour profile"
    assert examine("a", with_segments(PLAIN["JPEG"], *parts[:2]), SPEC).endswith("left out")


XMP = b'<x tiff:Orientation="6"/>'
HEXADECIMAL = b"\nexif\n      26\n" + tiff((TURNED,)).hex().encode() + b"\n"
ELSEWHERE = {
    "XMP of a JPEG": with_segments(PLAIN["JPEG"], (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
    "XMP of a PNG": with_chunks(PLAIN["PNG"], chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "XMP of a WebP": encoded(TALL, "WEBP", xmp=XMP),
    "a text of a PNG": with_chunks(PLAIN["PNG"], chunk(b"tEXt", b"Raw profile type exif\0" + HEXADECIMAL)),
    "a packed text": with_chunks(
        PLAIN["PNG"], chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(HEXADECIMAL))
    ),
    "behind the pixels of a PNG": PLAIN["PNG"][:-12] + chunk(b"eXIf", tiff((TURNED,))) + PLAIN["PNG"][-12:],
    "behind junk": with_segments(PLAIN["JPEG"], (0xFE, b""))[:6]
    + b"\0\1\xff\0"
    + carrying("JPEG", tiff((TURNED,)))[2:],
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_orientation_elsewhere_turns_the_picture(name: str) -> None:
    assert size_of(ELSEWHERE[name]) == (24, 16)


@pytest.mark.parametrize("data", [PLAIN["PNG"][:8] + chunk(b"tRNS", b""), PLAIN["PNG"][:8], PLAIN["JPEG"][:3]])
def test_a_file_of_some_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(PictureRefused, match="cannot be decoded"):
        decode("a", data, SPEC)


def test_exif_goes_before_xmp() -> None:
    assert of_exif(tiff(((0x112, 3, 1, b"\3\0"),)), XMP) == (3, False)


def with_foreign_exif(kind: str, exif: bytes) -> bytes:
    """A HEIC or AVIF file; what writes them reads the EXIF, so it is changed afterwards."""
    good = tiff(((0x10F, 2, 60, bytes(4)),)) + bytes(60)
    data = heic(TALL, exif=good) if kind == "HEIC" else encoded(TALL, "AVIF", exif=good)
    assert data.count(good) == 1
    return data.replace(good, exif.ljust(len(good), b"\0"))


@pytest.mark.parametrize("exif", [tiff((RATIONAL, TURNED)) + struct.pack("<iI", -1, 0), b"\xff" * 40])
@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_exif_of_heic_and_avif_neither_costs_nor_turns_the_picture(kind: str, exif: bytes) -> None:
    data = with_foreign_exif(kind, exif)
    assert (size_of(data), examine("a", data, SPEC)) == ((16, 24), "")


def test_bytes_of_pixels_stay_when_metadata_go() -> None:
    bare = np.asarray(decode("a", PLAIN["JPEG"], SPEC))
    full = with_segments(PLAIN["JPEG"], (0xFE, b"a comment"), (0xED, b"Photoshop 3.0\x008BIM"), (0xE1, b"Exif\0\0II"))
    assert np.array_equal(bare, np.asarray(decode("a", full, SPEC)))
    rows = b"".join(b"\0" + bytes(range(16 * i, 16 * i + 16)) for i in range(16))
    grey = np.asarray(decode("a", png(16, 16, 8, 0, rows, chunk(b"sRGB", b"\0")), SPEC))
    assert np.array_equal(grey[..., 0].ravel(), np.arange(256))
