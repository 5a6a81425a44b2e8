"""Rings and spirals are told apart by their angular harmonics, in real pictures and in those of the committed base."""

import numpy as np
import pytest

from infra.base.polar import HARMONICS, shown
from infra.base.world import COLOURS, MOTIFS, SIZES, Picture, Scene, draw_adire, draw_cloth
from tasks.core.models.rendering import Renderer


def real(motif: str, size: str, count: int) -> list[Picture]:
    """Half of them dyed cloth, half adire."""
    rng = np.random.default_rng([3, count])
    pairs = [rng.choice(list(COLOURS), 2, replace=False) for _ in range(count // 2)]
    dyed = [draw_cloth(Scene(motif, size, str(a), str(b)), rng) for a, b in pairs]
    return dyed + [draw_adire(motif, size, rng) for _ in range(count // 2)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("motif", list(HARMONICS))
def test_real_rings_and_spirals_are_told_apart(motif: str, size: str) -> None:
    seen = [shown(picture, size) for picture in real(motif, size, 50)]
    assert seen.count(motif) >= 0.98 * len(seen)


@pytest.mark.parametrize("size", SIZES)
def test_other_motifs_are_neither(size: str) -> None:
    others = [motif for motif in MOTIFS if motif not in HARMONICS]
    assert {shown(picture, size) for motif in others for picture in real(motif, size, 4)} == {"neither"}


@pytest.mark.parametrize("motif", list(HARMONICS))
def test_the_base_draws_what_it_is_asked_for(motif: str) -> None:
    renderer, right = Renderer("embedded", "cpu"), []
    for size in SIZES:
        prompts = [f"{size} {figure} {motif} on white" for figure in COLOURS if figure != "white"] * 2
        pictures, _ = renderer.render(prompts, list(range(len(prompts))), 12, 2.0)
        right += [shown(np.asarray(picture), size) == motif for picture in pictures]
    assert np.mean(right) >= 0.95
