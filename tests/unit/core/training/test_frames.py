"""What is cut out of a picture: squares and buckets, crops by content, mirrored pictures, the sizes SDXL is told."""

import numpy as np
import pytest
from PIL import Image

from tasks.core.config.training import TrainSpec
from tasks.core.training.dataset import Frame, cut, frames, shape_of, shapes

SPEC = TrainSpec(resolution=512)
BUCKETS = SPEC.model_copy(update={"buckets": True})
RANDOM = SPEC.model_copy(update={"crop": "random", "crops": 3})
SHA, OTHER = "0123456789abcdef", "fedcba9876543210"


def ramp(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    red = np.tile(np.linspace(0, 255, width), (height, 1))
    green = np.tile(np.linspace(0, 255, height)[:, None], (1, width))
    return Image.fromarray(np.stack([red, green, np.zeros_like(red)], 2).astype(np.uint8))


def middle(picture: Image.Image) -> list[float]:
    return [float(v) for v in np.asarray(picture).reshape(-1, 3).mean(0)]


def test_buckets_are_multiples_of_the_step_with_the_area_of_the_square_at_most() -> None:
    found = shapes(512, 64)
    assert (512, 512) in found
    assert all(h % 64 == w % 64 == 0 and h * w <= 512 * 512 and max(h, w) <= 1024 for h, w in found)
    assert {(w, h) for h, w in found} == set(found)
    assert all(h * w >= 0.8 * 512 * 512 for h, w in found), "no pixels are given away beyond the step"


@pytest.mark.parametrize(
    ("size", "shape"),
    [((500, 500), (512, 512)), ((1920, 1080), (384, 640)), ((1080, 1920), (640, 384)), ((3000, 500), (256, 1024))],
)
def test_a_picture_takes_the_bucket_nearest_to_its_own_shape(size: tuple[int, int], shape: tuple[int, int]) -> None:
    assert shape_of(size, BUCKETS) == shape
    assert shape_of(size, SPEC) == (512, 512)


def test_the_middle_is_kept_and_the_sizes_are_told() -> None:
    fitted, sizes = cut(ramp(1024, 600), SHA, Frame(0, False), SPEC)
    assert fitted.size == (512, 512)
    assert middle(fitted)[:2] == [pytest.approx(127, abs=3)] * 2
    assert sizes == [600, 1024, 0, 181, 512, 512]


def test_a_random_crop_is_a_function_of_the_content_and_its_number() -> None:
    wide = ramp(1600, 400)
    assert [f.crop for f in frames(RANDOM)] == [0, 1, 2]
    crops = {number: cut(wide, SHA, Frame(number, False), RANDOM) for number in range(3)}
    assert cut(wide, SHA, Frame(1, False), RANDOM)[1] == crops[1][1]
    assert len({tuple(sizes) for _, sizes in crops.values()}) == 3
    assert cut(wide, OTHER, Frame(1, False), RANDOM)[1] != crops[1][1]
    for fitted, sizes in crops.values():
        left = sizes[3] / (1600 * 512 / 400)
        assert middle(fitted)[0] == pytest.approx(255 * (left + 0.125), abs=3), "what is told is what was cut"


def test_flips_are_mirrored_and_only_made_when_asked_for() -> None:
    assert frames(SPEC) == [Frame(0, False)]
    flipping = SPEC.model_copy(update={"flip": True})
    assert frames(flipping) == [Frame(0, False), Frame(0, True)]
    plain, mirrored = (np.asarray(cut(ramp(64, 64), SHA, f, flipping)[0]) for f in frames(flipping))
    assert np.array_equal(mirrored, plain[:, ::-1])


def test_what_changes_the_outcome_changes_the_name() -> None:
    specs = [SPEC, BUCKETS, RANDOM, SPEC.model_copy(update={"resolution": 256})]
    specs.append(BUCKETS.model_copy(update={"bucket_step": 32}))
    names = [frame.name(spec) for spec in specs for frame in (Frame(0, False), Frame(0, True))]
    assert len(set(names)) == len(names)
    assert Frame(0, False).name(SPEC) == Frame(0, False).name(SPEC.model_copy(update={"steps": 7}))
