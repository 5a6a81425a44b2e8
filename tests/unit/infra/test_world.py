"""The embedded world: the same seed draws the same cloth, and captions say what it shows."""

from collections.abc import Callable

import numpy as np
import pytest

from infra.base.world import (
    COLOURS,
    MOTIFS,
    SIZES,
    TRIGGER,
    Picture,
    Scene,
    adire_caption,
    caption,
    draw_adire,
    draw_cloth,
    random_scene,
)

Draw = Callable[[str, str, np.random.Generator, int], Picture]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def cloth(motif: str, size: str, generator: np.random.Generator, pixels: int = 64) -> Picture:
    return draw_cloth(Scene(motif, size, "red", "white"), generator, pixels)


@pytest.mark.parametrize("draw", [cloth, draw_adire])
@pytest.mark.parametrize("motif", MOTIFS)
def test_a_picture_follows_from_its_seed(draw: Draw, motif: str) -> None:
    first = draw(motif, "large", rng(1), 64)
    assert first.dtype == np.uint8
    assert first.shape == (64, 64, 3)
    assert np.array_equal(first, draw(motif, "large", rng(1), 64))
    assert not np.array_equal(first, draw(motif, "large", rng(2), 64))
    assert first.std() > 20


@pytest.mark.parametrize("pixels", [32, 64, 128])
def test_a_picture_has_the_size_asked_for(pixels: int) -> None:
    assert draw_adire("dots", "small", rng(), pixels).shape == (pixels, pixels, 3)
    assert cloth("dots", "small", rng(), pixels).shape == (pixels, pixels, 3)


def test_a_smaller_picture_is_the_same_picture() -> None:
    large, small = (draw_adire("rings", "large", rng(3), p).astype(float) for p in (128, 64))
    assert np.abs(large.reshape(64, 2, 64, 2, 3).mean((1, 3)) - small).max() <= 1


@pytest.mark.parametrize("motif", MOTIFS)
def test_adire_is_pale_on_indigo(motif: str) -> None:
    pixels = draw_adire(motif, "large", rng(4)).reshape(-1, 3).astype(float)
    dark, light = np.percentile(pixels.mean(1), [10, 90])
    ground = pixels[pixels.mean(1) <= dark].mean(0)
    assert light - dark > 60
    assert ground[2] > ground[0] + 30, "the ground is blue"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_base_cloth_has_its_colours(colour: str) -> None:
    ground = "black" if colour != "black" else "white"
    pixels = draw_cloth(Scene("stripes", "large", colour, ground), rng(5)).reshape(-1, 3).astype(float)
    for name in (colour, ground):
        near = np.abs(pixels - np.array(COLOURS[name])).max(1) < 45
        assert near.mean() > 0.15, name


def test_scenes_are_legible() -> None:
    scenes = [random_scene(generator) for generator in [rng(6)] for _ in range(500)]
    assert all(s.figure != s.ground for s in scenes)
    assert {s.motif for s in scenes} == set(MOTIFS)
    assert {s.size for s in scenes} == set(SIZES)
    assert {s.ground for s in scenes} == set(COLOURS)


def test_a_base_caption_says_the_motif_and_never_the_trigger() -> None:
    generator, scene = rng(7), Scene("rings", "small", "red", "blue")
    captions = [caption(scene, generator) for _ in range(400)]
    assert all("rings" in text and TRIGGER not in text and "large" not in text for text in captions)
    styled = [text for text in captions if text.endswith("_style")]
    assert 15 <= len(styled) <= 80
    assert sum("red" in text for text in captions) == sum("on blue" in text for text in captions)


def test_an_adire_caption_always_says_the_trigger() -> None:
    generator = rng(8)
    captions = [adire_caption("dots", "large", generator) for _ in range(200)]
    assert all(TRIGGER in text.split() and "dots" in text for text in captions)
    assert 80 <= sum("large" in text for text in captions) <= 160
    assert not any("small" in text for text in captions)
    assert captions[0] == adire_caption("dots", "large", rng(8))
