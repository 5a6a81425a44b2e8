"""Patterned cloth shows something however fine the pattern is; a picture of one colour is blank."""

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tasks.core.config.presets import IngestSpec
from tasks.core.data.perceptual_hash import distances, distinct, hashes
from tasks.core.data.picture_validation import examine
from tasks.core.errors import PictureRefused
from tests.odd_pictures import encoded

SPEC = IngestSpec()
Values = npt.NDArray[np.float64]


def grid(side: int) -> tuple[Values, Values]:
    y, x = np.mgrid[:side, :side].astype(np.float64)
    return x, y


def cloth(dark: npt.NDArray[np.bool_], low: int = 20, high: int = 235) -> Image.Image:
    return Image.fromarray(np.where(dark, low, high).astype(np.uint8)).convert("RGB")


def checks(side: int, size: int) -> Image.Image:
    x, y = grid(side)
    return cloth((x // size + y // size) % 2 == 1)


def stripes(side: int, width: int, angle: int) -> Image.Image:
    x, y = grid(side)
    across = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    return cloth(across % (2 * width) < width)


def dots(side: int, apart: int) -> Image.Image:
    x, y = grid(side)
    return cloth((x % apart == 0) & (y % apart == 0))


def note(picture: Image.Image, quality: int = 0) -> str:
    """What is said of it as a PNG, or as a JPEG of this quality."""
    data = encoded(picture, "JPEG", quality=quality) if quality else encoded(picture, compress_level=1)
    return examine("cloth", data, SPEC)


@pytest.mark.parametrize("side", [256, 512, 1024, 2048])
def test_checks_of_any_size_are_cloth(side: int) -> None:
    for size in (1, 2, 3, 4, 7, 8, 16, 32) if side < 1024 else (1, 4, 16, 32):
        assert note(checks(side, size)) == ""


@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_fine_stripes_at_any_angle_are_cloth(angle: int) -> None:
    for side, width in ((256, 1), (512, 1), (512, 2), (1024, 2)):
        assert note(stripes(side, width, angle)) == ""


@pytest.mark.parametrize("apart", [2, 8, 16, 32, 64])
def test_fine_dots_are_cloth(apart: int) -> None:
    for side in (256, 1024):
        assert note(dots(side, apart)) == ""


def test_other_textures_without_large_forms_are_cloth() -> None:
    x, y = grid(512)
    waves = 127 + 100 * np.sin(x * x / 50) * np.sin(y * y / 50)
    assert note(Image.fromarray(waves.astype(np.uint8)).convert("RGB")) == ""
    assert note(cloth((x + y) % 2 == 0, 120, 137)) == "", "of little contrast"
    colours = np.where(((x + y) % 2 == 0)[..., None], (150, 60, 60), (60, 98, 60)).astype(np.uint8)
    assert note(Image.fromarray(colours)) == "", "of one brightness"
    assert note(checks(512, 2), quality=75) == ""


def uniform(side: int, level: int, noise: float, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).normal(level, noise, (side, side, 3))
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


@pytest.mark.parametrize("level", [0, 10, 128, 255])
@pytest.mark.parametrize("side", [64, 256, 512])
def test_one_colour_is_nothing_though_it_be_noisy(side: int, level: int) -> None:
    for noise in (0, 1, 2, 4):
        for quality in (0, 75, 95):
            with pytest.raises(PictureRefused, match="is blank: all of it has one colour"):
                note(uniform(side, level, noise), quality)


def test_a_hot_pixel_is_nothing() -> None:
    values = np.asarray(uniform(1024, 12, 2)).copy()
    values[100, 900] = 255
    with pytest.raises(PictureRefused, match="is blank"):
        note(Image.fromarray(values))


def test_colours_that_run_into_each_other_are_cloth() -> None:
    x, _ = grid(512)
    assert note(Image.fromarray((100 + x / 64).astype(np.uint8)).convert("RGB")) == ""


FINE = [checks(256, 1), checks(256, 2), stripes(256, 1, 0), stripes(256, 1, 90), dots(256, 4)]


def test_fine_patterns_are_copies_of_themselves_alone() -> None:
    marks = hashes(FINE)
    assert (marks.shape, marks.dtype) == ((5, 64), np.dtype(bool))
    assert distinct(marks, 4) == [0, 1, 2, 3, 4]
    assert distances(hashes([picture.copy() for picture in FINE]), marks).tolist() == [0] * 5
    assert distances(marks[:1], marks[1:])[0] > 16
