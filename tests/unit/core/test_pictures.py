"""Decoding pictures as cameras and scanners deliver them."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tasks.core.data.pictures import decode, square
from tasks.core.errors import PictureRefused
from tasks.core.specs import IngestSpec

SPEC = IngestSpec(min_side=16)


def ramp(width: int = 64, height: int = 48) -> Image.Image:
    """Dark on the left, light on the right."""
    row = np.linspace(20, 235, width).astype(np.uint8)
    return Image.fromarray(np.repeat(np.tile(row, (height, 1))[..., None], 3, axis=2))


def through(picture: Image.Image, kind: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return decode(f"picture.{kind.lower()}", buffer.getvalue(), SPEC)


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


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    wide = (np.asarray(ramp().convert("L")).astype(np.uint16) * 257).copy()
    decoded = through(Image.fromarray(wide), "PNG")
    assert np.abs(pixels(decoded) - pixels(ramp())).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_upright_by_its_exif(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held turned by 90 degrees
    decoded = through(ramp(), kind, exif=exif)
    assert decoded.size == (48, 64)
    assert pixels(decoded)[:8].mean() + 100 < pixels(decoded)[-8:].mean(), "what was left is on top"


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
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(buffer, kind)
    rng, refused = np.random.default_rng(1), 0
    for _ in range(300):
        damaged = bytearray(buffer.getvalue())
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
