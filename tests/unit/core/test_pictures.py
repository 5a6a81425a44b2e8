"""Decoding pictures as cameras and scanners deliver them."""

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tasks.core.data.pictures import decode, examine, square
from tasks.core.errors import PictureRefused
from tasks.core.specs import IngestSpec
from tests.odd_pictures import deep_png, encoded, noise, press_profile, turned, vast_png

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
    assert (
        examine("a.jpg", data, SPEC)
        == "CMYK made RGB without its damaged or foreign colour profile"
    )
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


def test_more_pixels_than_pillow_allows_may_be_asked_for() -> None:
    data = vast_png(20_000, 10_000)[:60]
    with pytest.raises(PictureRefused, match="truncated"):
        examine("scan.png", data, IngestSpec(max_pixels=200_000_000))


@pytest.mark.parametrize("data", [b"", b"this is no picture", encoded(ramp(), "GIF")])
def test_what_is_no_picture_is_told_so(data: bytes) -> None:
    with pytest.raises(PictureRefused, match="it is no JPEG, PNG, WebP, HEIC or AVIF picture"):
        examine("a.png", data, SPEC)


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


def test_an_animation_that_begins_with_nothing_is_refused() -> None:
    with pytest.raises(PictureRefused, match="shows nothing"):
        through(Image.new("RGB", (64, 64)), "WEBP", save_all=True, append_images=[ramp(64, 64)])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_no_damage_leads_to_any_other_error(kind: str) -> None:
    whole = encoded(noise(0, 24, 24), kind)
    rng, refused = np.random.default_rng(1), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for at in rng.integers(12, min(len(damaged), int(rng.choice([60, 10_000]))), 3):
            damaged[at] = int(rng.integers(256))
        try:
            assert decode("damaged", bytes(damaged[: int(rng.integers(20, len(damaged) + 1))]), SPEC).mode == "RGB"
        except PictureRefused:
            refused += 1
    assert refused > 150


def test_the_middle_is_cut_out_square() -> None:
    cut = square(ramp(128, 64), 32)
    assert cut.size == (32, 32)
    assert abs(pixels(cut)[:, 0].mean() - pixels(ramp(128, 64))[:, 32].mean()) < 8
