"""Decoding pictures as cameras and scanners deliver them."""

import io
import struct

import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
from PIL import Image

from tasks.core.config.presets import IngestSpec
from tasks.core.data.file_kinds import SUFFIXES
from tasks.core.data.picture_validation import decode, examine, square
from tasks.core.errors import PictureRefused
from tests.odd_pictures import chunk, deep_png, encoded, heic, noise, png, press_profile, turned, vast_png

SPEC = IngestSpec(min_side=16)


def ramp(width: int = 64, height: int = 48) -> Image.Image:
    """Dark on the left, light on the right."""
    row = np.linspace(20, 235, width).astype(np.uint8)
    return Image.fromarray(np.repeat(np.tile(row, (height, 1))[..., None], 3, axis=2))


def through(picture: Image.Image, kind: str, **options: object) -> Image.Image:
    return decode(f"picture.{kind.lower()}", encoded(picture, kind, **options), SPEC)


def pixels(picture: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(picture).astype(np.int64)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "RGBA", "1"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    decoded = through(ramp().convert(mode), "PNG")
    assert (decoded.mode, decoded.size) == ("RGB", (64, 48))
    assert pixels(decoded)[:, -8:].mean() > pixels(decoded)[:, :8].mean() + 100


def test_cmyk_is_decoded() -> None:
    decoded = through(ramp().convert("CMYK"), "JPEG", quality=95)
    assert decoded.mode == "RGB"
    assert np.abs(pixels(decoded) - pixels(ramp())).mean() < 8


def test_cmyk_has_the_colours_of_its_profile() -> None:
    cyan = Image.merge("CMYK", [ramp().convert("L"), *[Image.new("L", (64, 48))] * 3])
    plain = pixels(through(cyan, "JPEG", quality=95))[:, -8:].mean((0, 1))
    printed = pixels(through(cyan, "JPEG", quality=95, icc_profile=press_profile()))[:, -8:].mean((0, 1))
    assert plain[0] + 150 < plain[2], "cyan, where nothing else is known"
    assert printed[0] > printed[2] + 100, "the ink of this press is red"


@pytest.mark.parametrize("profile", [b"no profile", press_profile()[:900]])
def test_a_damaged_profile_does_not_cost_the_picture(profile: bytes) -> None:
    cmyk = ramp().convert("CMYK")
    data = encoded(cmyk, "JPEG", icc_profile=profile)
    assert examine("a.jpg", data, SPEC) == "CMYK made RGB without its damaged or foreign colour profile"
    assert np.array_equal(pixels(decode("a.jpg", data, SPEC)), pixels(through(cmyk, "JPEG")))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_and_not_clipped(channels: int) -> None:
    values = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
    data = deep_png(values if channels == 1 else np.stack([values, values[::-1], values], -1))
    decoded = pixels(decode("deep.png", data, SPEC))
    assert np.abs(decoded[..., 0] - values / 257).max() < 1
    assert (decoded.min(), decoded.max()) == (0, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_upright_by_its_exif(kind: str) -> None:
    decoded = decode("turned", turned(ramp(), kind), SPEC)
    assert decoded.size == (48, 64)
    assert pixels(decoded)[:8].mean() + 100 < pixels(decoded)[-8:].mean(), "what was left is on top"


GREY = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
PRINT = ramp().convert("CMYK")
CHANGES = {
    "rgb.png": (encoded(ramp()), ""),
    "grey.png": (encoded(ramp().convert("L")), "grey made RGB"),
    "bits.png": (encoded(ramp().convert("1")), "black and white made RGB"),
    "palette.png": (encoded(ramp().convert("P")), "palette made RGB"),
    "alpha.png": (encoded(ramp().convert("RGBA")), "transparency laid on white"),
    "both.png": (encoded(ramp().convert("LA")), "grey made RGB, transparency laid on white"),
    "deep grey.png": (deep_png(GREY), "grey made RGB, 16 bits a channel cut to 8"),
    "deep.png": (deep_png(np.stack([GREY] * 3, -1)), "16 bits a channel cut to 8"),
    "cmyk.jpg": (encoded(PRINT, "JPEG"), "CMYK made RGB without a colour profile"),
    "press.jpg": (encoded(PRINT, "JPEG", icc_profile=press_profile()), "CMYK made RGB by its colour profile"),
    "turned.jpg": (turned(ramp(), "JPEG"), "turned upright by its EXIF"),
    "turned grey.jpg": (turned(ramp().convert("L"), "JPEG"), "grey made RGB, turned upright by its EXIF"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_is_told(name: str) -> None:
    data, changes = CHANGES[name]
    assert examine(name, data, SPEC) == changes


@pytest.mark.parametrize("size", [(400, 40), (40, 400)])
def test_a_long_strip_is_refused_unless_it_is_asked_for(size: tuple[int, int]) -> None:
    data = encoded(noise(1, *size))
    with pytest.raises(PictureRefused, match=f"{size[0]} x {size[1]} is more than 8 times as long as wide; crop it"):
        examine("strip.png", data, SPEC)
    assert examine("strip.png", data, IngestSpec(max_aspect=10)) == ""
    assert decode("strip.png", data, SPEC).size == size, "what may enter is decided once"


def test_a_vast_picture_is_refused_by_its_header_alone() -> None:
    with pytest.raises(PictureRefused, match="30000 x 20000 is more than 64000000 pixels"):
        examine("vast.png", vast_png(30_000, 20_000)[:60], SPEC)


def vast(kind: str) -> bytes:
    """10000 x 8000 by the header; what follows it is a small picture."""
    small = heic(noise(0, 64, 64)) if kind == "HEIC" else encoded(noise(0, 64, 64), kind, lossless=True)
    if kind == "WEBP":
        at = small.index(b"VP8L") + 9  # 14 bits of the width less 1, 14 of the height less 1, 4 others
        others = int.from_bytes(small[at : at + 4], "little") >> 28
        sides = (others << 28 | 7999 << 14 | 9999).to_bytes(4, "little")
    elif kind == "JPEG":
        at, sides = small.index(b"\xff\xc0") + 5, struct.pack(">HH", 8000, 10000)
    else:
        at, sides = small.index(b"ispe") + 8, struct.pack(">II", 10000, 8000)
    return small[:at] + sides + small[at + len(sides) :]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "HEIC"])
def test_a_vast_picture_of_any_kind_is_refused_before_it_is_decoded(kind: str) -> None:
    with pytest.raises(PictureRefused, match="10000 x 8000 is more than 64000000 pixels"):
        examine("vast", vast(kind), SPEC)


def test_the_limit_of_the_process_stays_as_it_is() -> None:
    assert Image.MAX_IMAGE_PIXELS == 1024**3 // 12


def test_more_pixels_than_pillow_allows_may_be_asked_for() -> None:
    data = vast_png(20_000, 10_000)[:60]
    with pytest.raises(PictureRefused, match="truncated"):
        examine("scan.png", data, IngestSpec(max_pixels=200_000_000))


@pytest.mark.parametrize("data", [b"", b"this is no picture", encoded(ramp(), "GIF")])
def test_what_is_no_picture_is_told_so(data: bytes) -> None:
    with pytest.raises(PictureRefused, match="it is no JPEG, PNG, WebP, HEIC or AVIF picture"):
        examine("a.png", data, SPEC)


def keyed(depth: int, colour: int, row: bytes, key: bytes, *chunks: bytes) -> list[list[int]]:
    """The 16 pixels of each row of a picture in which something is transparent."""
    data = png(16, 16, depth, colour, (b"\0" + row) * 16, *chunks, chunk(b"tRNS", key))
    return [[int(value) for value in pixel] for pixel in np.asarray(decode("a", data, SPEC))[8]]


WHITE = [255, 255, 255]


def test_one_transparent_grey_is_white_at_every_depth() -> None:
    deep = keyed(16, 0, struct.pack(">16H", *range(4660, 4676)), struct.pack(">H", 4665))  # all are 18 in 8 bits
    assert deep == [WHITE if i == 5 else [18] * 3 for i in range(16)]
    assert keyed(8, 0, bytes(range(0, 160, 10)), b"\0\x32") == [WHITE if i == 5 else [10 * i] * 3 for i in range(16)]
    assert keyed(4, 0, bytes.fromhex("0123456789abcdef"), b"\0\5") == [
        WHITE if i == 5 else [17 * i] * 3 for i in range(16)
    ]
    assert keyed(2, 0, b"\x1b" * 4, b"\0\2") == [[0] * 3, [85] * 3, WHITE, WHITE] * 4
    with pytest.raises(PictureRefused, match="is blank"):
        keyed(1, 0, b"\x55\x55", b"\0\0")  # white, and a black that is transparent


def test_one_transparent_colour_is_white() -> None:
    assert keyed(8, 2, bytes([9, 8, 7, 70, 80, 90] * 8), b"\0\x09\0\x08\0\x07") == [WHITE, [70, 80, 90]] * 8
    row = struct.pack(">6H", 0x0901, 0x0802, 0x0703, 0x4601, 0x5002, 0x5A03) * 8
    assert keyed(16, 2, row, row[:6]) == [WHITE, [70, 80, 90]] * 8


def test_palettes_may_be_transparent_in_part() -> None:
    palette = chunk(b"PLTE", bytes([0, 0, 0, 10, 20, 30, 200, 100, 0]))
    assert (
        keyed(8, 3, bytes([0, 1, 2, 2] * 4), b"\0\xff\x33", palette)
        == [
            WHITE,
            [10, 20, 30],
            [244, 224, 204],
            [244, 224, 204],
        ]
        * 4
    )


def test_grey_and_alpha_in_sixteen_bits() -> None:
    rows = (b"\0" + struct.pack(">4H", 0x6400, 0xFFFF, 0x6400, 0x8000) * 8) * 16
    decoded = decode("a", png(16, 16, 16, 4, rows), SPEC)
    assert [decoded.getpixel((x, 8)) for x in (0, 1)] == [(100, 100, 100), (177, 177, 177)]


def test_ink_in_a_jpeg_is_inverted_as_adobe_has_it() -> None:
    ink = Image.new("CMYK", (32, 32))
    ink.paste((0, 255, 255, 0), (0, 0, 16, 32))
    decoded = through(ink, "JPEG", quality=100)
    assert np.abs(pixels(decoded)[16, [8, 24]] - [[255, 0, 0], WHITE]).max() <= 2


def test_what_is_transparent_is_white() -> None:
    clear = ramp().convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 32, 48))
    decoded = through(clear, "PNG")
    assert (pixels(decoded)[:, :32] == 255).all()
    assert np.array_equal(pixels(decoded)[:, 32:], pixels(ramp())[:, 32:])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_picture_counts(kind: str) -> None:
    first, second = ramp(), ramp().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    decoded = through(first, kind, save_all=True, append_images=[second], duration=100, lossless=True)
    assert np.abs(pixels(decoded) - pixels(first)).mean() < 3


def animated(kind: str, frames: int) -> bytes:
    rest = [noise(i, 64, 48) for i in range(1, frames)]
    return encoded(noise(0, 64, 48), kind, save_all=True, append_images=rest, duration=100)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_frames_that_are_left_out_are_counted(kind: str) -> None:
    assert examine("a", animated(kind, 3), SPEC) == "first of 3 frames"
    assert examine("a", animated(kind, 1), SPEC) == ""


def test_an_animation_that_begins_with_nothing_is_refused() -> None:
    with pytest.raises(PictureRefused, match="is blank"):
        through(Image.new("RGB", (64, 64)), "WEBP", save_all=True, append_images=[ramp(64, 64)])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIC"])
def test_no_damage_leads_to_any_other_error(kind: str) -> None:
    whole = heic(noise(0, 24, 24)) if kind == "HEIC" else encoded(noise(0, 24, 24), kind)
    rng, refused = np.random.default_rng(1), 0
    for _ in range(200):
        damaged = bytearray(whole)
        for at in rng.integers(12, min(len(damaged), int(rng.choice([60, 10_000]))), 3):
            damaged[at] = int(rng.integers(256))
        try:
            assert decode("damaged", bytes(damaged[: int(rng.integers(20, len(damaged) + 1))]), SPEC).mode == "RGB"
        except PictureRefused:
            refused += 1
    assert refused > 100


def test_of_several_pictures_in_a_jpeg_the_first_is_read() -> None:
    data = encoded(ramp(), "MPO", save_all=True, append_images=[noise(0)], quality=95)
    assert b"MPF\0" in data
    assert np.abs(pixels(decode("phone.jpg", data, SPEC)) - pixels(ramp())).max() < 6
    assert examine("phone.jpg", data, SPEC) == ""


@pytest.mark.parametrize("name", ["a.png", "a.heic", "a.txt", "a"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_what_counts_is_what_a_file_holds(name: str, kind: str) -> None:
    assert examine(name, encoded(noise(0), kind), SPEC) == ""


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_follows_a_picture_is_passed_over(kind: str) -> None:
    data = encoded(noise(0), kind)
    more = decode("a", data + b"PK\3\4 and more" * 99, SPEC)
    assert np.array_equal(pixels(more), pixels(decode("a", data, SPEC)))


CUT = {
    "progressive.jpg": encoded(noise(0, 96, 96), "JPEG", progressive=True),
    "a.jpg": encoded(noise(0, 96, 96), "JPEG"),
    "a.png": encoded(noise(0, 96, 96)),
    "a.webp": encoded(noise(0, 96, 96), "WEBP"),
    "a.avif": encoded(noise(0, 96, 96), "AVIF"),
    "a.heic": heic(noise(0, 96, 96)),
}


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_off_is_refused_by_name(name: str) -> None:
    assert examine(name, CUT[name], SPEC) == ""
    for share in (0.05, 0.5, 0.9):
        with pytest.raises(PictureRefused, match=f"picture '{name}': cannot be decoded"):
            decode(name, CUT[name][: int(share * len(CUT[name]))], SPEC)


@pytest.mark.parametrize("suffix", [".heic", ".heif", ".avif", ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"])
def test_endings_of_the_kinds_that_are_read(suffix: str) -> None:
    assert suffix in SUFFIXES


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_heic_and_avif_are_read_and_turned_once(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"quality": 100, "subsampling": "4:4:4"}
    plain = heic(ramp()) if kind == "HEIC" else encoded(ramp(), kind, **options)
    turned = heic(ramp(), exif=exif.tobytes()) if kind == "HEIC" else encoded(ramp(), kind, exif=exif, **options)
    assert np.abs(pixels(decode("a", plain, SPEC)) - pixels(ramp())).max() <= 3
    upright = ramp().transpose(Image.Transpose.ROTATE_270)
    assert np.abs(pixels(decode("a", turned, SPEC)) - pixels(upright)).max() <= 3


def test_heic_of_ten_bits_is_cut_to_eight() -> None:
    values = np.repeat(np.linspace(0, 65535, 64).astype(np.uint16)[None, :, None], 64, 0).repeat(3, 2)
    buffer = io.BytesIO()
    file = pillow_heif.from_bytes("RGB;16", (64, 64), values.tobytes())
    file.save(buffer, quality=-1, chroma=444)
    decoded = pixels(decode("a", buffer.getvalue(), SPEC))
    assert np.abs(decoded - values / 257).max() < 3
    assert examine("a", buffer.getvalue(), SPEC) == "10 bits a channel cut to 8"


def test_the_middle_is_cut_out_square() -> None:
    cut = square(ramp(128, 64), 32)
    assert cut.size == (32, 32)
    assert abs(pixels(cut)[:, 0].mean() - pixels(ramp(128, 64))[:, 32].mean()) < 8
