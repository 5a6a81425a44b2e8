"""Colours become those of sRGB; the right values are littleCMS's, with the colorants that published profiles have."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from tasks.core.config.presets import IngestSpec
from tasks.core.data.picture_validation import decode, examine
from tests.odd_pictures import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    adobe_exif,
    chunk,
    deep_png,
    encoded,
    grey_profile,
    heic,
    press_profile,
    screen_profile,
    with_chunks,
    with_segments,
)

SPEC = IngestSpec(min_side=16)
Colours = tuple[tuple[int, int, int], ...]
PATCHES = ((200, 60, 40), (60, 200, 60), (40, 60, 200))
IN_P3 = ((217, 42, 23), (0, 203, 11), (34, 61, 208))
IN_ADOBE = ((231, 57, 34), (0, 201, 37), (21, 57, 205))
P3, ADOBE = screen_profile(DISPLAY_P3), screen_profile(ADOBE_RGB, 563 / 256)


def patches(*colours: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray(np.repeat(np.array([colours or PATCHES], np.uint8), 24, 1).repeat(48, 0))


def greys(*values: int) -> Image.Image:
    return patches(*((value, value, value) for value in values)).convert("L")


def indexed() -> Image.Image:
    picture = Image.fromarray(np.arange(72, dtype=np.uint8)[None].repeat(48, 0) // 24, "P")
    picture.putpalette([value for patch in PATCHES for value in patch])
    return picture


def gamma(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


def colours_of(data: bytes, count: int = 3) -> list[list[int]]:
    decoded = np.asarray(decode("a", data, SPEC)).astype(int)
    return [list(decoded[24, 24 * i + 12]) for i in range(count)]


def assert_near(found: list[list[int]], right: Colours, within: int) -> None:
    assert np.abs(np.array(found) - np.array(right)).max() <= within, found


DEEP = deep_png(np.asarray(patches()).astype(np.uint16) * 257, chunk(b"iCCP", b"p3\0\0" + zlib.compress(P3)))
ROUGH = {"quality": 100, "subsampling": "4:4:4"}
TAGGED = {
    "png": (encoded(patches(), icc_profile=P3), IN_P3, 0, ""),
    "adobe.png": (encoded(patches(), icc_profile=ADOBE), IN_ADOBE, 0, ""),
    "jpg": (encoded(patches(), "JPEG", icc_profile=P3, **ROUGH), IN_P3, 3, ""),
    "webp": (encoded(patches(), "WEBP", lossless=True, icc_profile=P3), IN_P3, 0, ""),
    "heic": (heic(patches(), icc_profile=P3), IN_P3, 3, ""),
    "avif": (encoded(patches(), "AVIF", icc_profile=ADOBE, **ROUGH), IN_ADOBE, 6, ""),
    "rgba.png": (encoded(patches().convert("RGBA"), icc_profile=P3), IN_P3, 0, ", transparency laid on white"),
    "16 bits.png": (DEEP, IN_P3, 0, ", 16 bits a channel cut to 8"),
}


@pytest.mark.parametrize("name", TAGGED)
def test_colours_are_those_of_the_profile(name: str) -> None:
    data, right, within, rest = TAGGED[name]
    assert_near(colours_of(data), right, within)
    assert examine(name, data, SPEC) == "made sRGB by its colour profile" + rest


def test_a_palette_has_the_colours_of_the_profile() -> None:
    data = encoded(indexed(), icc_profile=P3)
    assert_near(colours_of(data), IN_P3, 0)
    assert examine("a", data, SPEC) == "palette made RGB, made sRGB by its colour profile"


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_has_the_brightness_of_its_profile(mode: str) -> None:
    data = encoded(greys(129, 20, 235).convert(mode), icc_profile=grey_profile(1.0))
    assert colours_of(data) == [[188] * 3, [79] * 3, [246] * 3]
    assert examine("a", data, SPEC).startswith("grey made RGB, made sRGB by its colour profile")


def test_grey_in_sixteen_bits_has_the_brightness_of_its_profile() -> None:
    values = np.full((48, 48), 129 * 257, np.uint16)
    values[:, 24:] = 20 * 257
    data = deep_png(values, chunk(b"iCCP", b"grey\0\0" + zlib.compress(grey_profile(1.0))))
    assert colours_of(data, 2) == [[188] * 3, [79] * 3]


CODED = chunk(b"cICP", bytes([12, 13, 0, 1]))
ADOBE_POINTS = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000))
IN_POINTS = ((230, 60, 39), (0, 200, 41), (28, 60, 203))
LINEAR = ((229, 133, 110), (133, 229, 133), (110, 133, 229))
SAID = {
    "gamma of 1": ((gamma(100_000),), LINEAR, "its gamma"),
    "gamma and chromaticities": (
        (gamma(45_470), ADOBE_POINTS),
        ((230, 60, 39), (0, 200, 41), (28, 60, 203)),
        "its gamma",
    ),
    "numbers": ((CODED,), IN_P3, "its colour numbers (12, 13)"),
    "numbers before all others": ((gamma(100_000), chunk(b"sRGB", b"\0"), CODED), IN_P3, "its colour numbers (12, 13)"),
    "gamma and points of nothing": ((gamma(100_000), chunk(b"cHRM", bytes(32))), LINEAR, "its gamma"),
}


@pytest.mark.parametrize("name", SAID)
def test_colours_are_what_the_chunks_of_a_png_say(name: str) -> None:
    chunks, right, by = SAID[name]
    data = with_chunks(encoded(patches()), *chunks)
    assert_near(colours_of(data), right, 1)
    assert examine(name, data, SPEC) == f"made sRGB by {by}"


SRGB_PROFILES = {
    "a table": screen_profile(SRGB),
    "littleCMS": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize("profile", SRGB_PROFILES)
def test_srgb_stays_bit_for_bit(profile: str, mode: str) -> None:
    every = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).convert(mode)
    plain, tagged = encoded(every), encoded(every, icc_profile=SRGB_PROFILES[profile])
    assert decode("a", plain, SPEC).tobytes() == decode("a", tagged, SPEC).tobytes()
    assert examine("a", plain, SPEC) == examine("a", tagged, SPEC)


@pytest.mark.parametrize(
    "chunks", [(gamma(100_000), chunk(b"sRGB", b"\0")), (gamma(45_455),), (chunk(b"sRGB", b"\0"),)]
)
def test_a_png_that_is_srgb_stays_bit_for_bit(chunks: tuple[bytes, ...]) -> None:
    data = with_chunks(encoded(patches()), *chunks)
    assert (colours_of(data), examine("a", data, SPEC)) == ([list(patch) for patch in PATCHES], "")


FOREIGN = {"damaged": P3[:200], "empty": b"\0" * 400, "for grey": grey_profile(1.0), "for ink": press_profile()}


@pytest.mark.parametrize("profile", FOREIGN)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_profile_that_does_not_fit_costs_nothing(kind: str, profile: str) -> None:
    data = encoded(patches(), kind, lossless=True, icc_profile=FOREIGN[profile])
    assert colours_of(data) == [list(patch) for patch in PATCHES]
    assert examine("a", data, SPEC) == "its damaged or foreign colour profile left out"


@pytest.mark.parametrize("said", [(gamma(1),), (gamma(4_000_000_000),), (chunk(b"cICP", bytes([9, 16, 0, 1])),)])
def test_what_cannot_be_followed_is_left_out(said: tuple[bytes, ...]) -> None:
    data = with_chunks(encoded(patches()), *said)
    assert colours_of(data) == [list(patch) for patch in PATCHES]
    assert examine("a", data, SPEC).endswith(" left out")


def test_adobe_rgb_may_be_told_by_exif_alone() -> None:
    plain = encoded(patches(), "JPEG", **ROUGH)
    adobe = with_segments(plain, (0xE1, b"Exif\0\0" + adobe_exif()))
    assert_near(colours_of(adobe), IN_ADOBE, 3)
    assert examine("a", adobe, SPEC) == "made sRGB by the Adobe RGB in its EXIF"
    other = with_segments(plain, (0xE1, b"Exif\0\0" + adobe_exif(b"R98")))
    assert colours_of(other) == colours_of(plain)
    tagged = with_segments(encoded(patches(), "JPEG", icc_profile=P3, **ROUGH), (0xE1, b"Exif\0\0" + adobe_exif()))
    assert_near(colours_of(tagged), IN_P3, 3)


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_the_numbers_of_display_p3_are_followed(kind: str) -> None:
    data = heic(patches()) if kind == "HEIC" else encoded(patches(), kind, **ROUGH)
    assert_near(colours_of(data), PATCHES, 2)
    coded = data.replace(b"colrnclx\0\1", b"colrnclx\0\x0c")
    assert_near(colours_of(coded), IN_P3, 8)
    assert examine("a", coded, SPEC) == "made sRGB by its colour numbers (12, 13)"


def test_ink_is_red_by_its_profile_and_cyan_without() -> None:
    cyan = Image.new("CMYK", (48, 48))
    cyan.paste((255, 0, 0, 0), (0, 0, 24, 48))
    assert_near(colours_of(encoded(cyan, "JPEG", quality=100), 2), ((0, 255, 255), (255, 255, 255)), 2)
    printed = colours_of(encoded(cyan, "JPEG", quality=100, icc_profile=press_profile()), 2)
    assert_near(printed, ((251, 0, 8), (255, 255, 255)), 2)
