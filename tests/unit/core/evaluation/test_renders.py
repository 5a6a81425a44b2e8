"""Kept renders, pictures that show nothing, and copies."""

import io
import json
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, PngImagePlugin
from safetensors.torch import save_file

from infra.base.world import MOTIFS, SIZES
from tasks.core.config.presets import EvaluationSpec
from tasks.core.data.perceptual_hash import distances, distinct, hashes
from tasks.core.errors import ModelUnusable
from tasks.core.evaluation.grid import ROWS, spread
from tasks.core.evaluation.references import References, nearest
from tasks.core.evaluation.renders import RenderCache, Way, way_of
from tasks.core.evaluation.session import EvaluatedModel, RenderSession
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.images import NAN, image_fault
from tasks.core.models.rendering import Renderer
from tasks.core.store import FolderStore
from tests.painter import Painter, adire

WAY = Way(base="b", size=64, steps=2, guidance=2, batch=3, dtype="float32", device="cpu")
SPEC = EvaluationSpec(steps=2, guidance=2.0, batch=3)


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8))


def test_kept_pictures_come_back_as_they_were(folder: FolderStore) -> None:
    cache, broken = RenderCache(folder, "adire", WAY), Image.new("RGB", (64, 64))
    broken.info[NAN] = True
    cache.add("m", "rings", {1: (picture(1), 0.5)})
    cache.add("m", "rings", {2: (picture(2), 0.25), 3: (broken, 0.1)})
    found = cache.read("m", "rings")
    assert {seed: seconds for seed, (_, seconds) in found.items()} == {1: 0.5, 2: 0.25, 3: 0.1}
    assert all(found[seed][0].tobytes() == picture(seed).tobytes() for seed in (1, 2))
    assert [image_fault(found[seed][0]) for seed in (1, 2, 3)] == ["", "", "not a number"]
    assert len(list(folder.list("models/adire/renders/"))) == 1, "one object for all seeds"
    assert cache.read("m", "dots") == cache.read("other", "rings") == {}


@pytest.mark.parametrize("change", [{"steps": 3}, {"guidance": 3.0}, {"size": 128}, {"device": "H200"}, {"base": "c"}])
def test_another_way_of_rendering_finds_nothing(folder: FolderStore, change: dict[str, object]) -> None:
    RenderCache(folder, "adire", WAY).add("m", "rings", {1: (picture(1), 0.5)})
    assert RenderCache(folder, "adire", WAY.model_copy(update=change)).read("m", "rings") == {}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"not a picture",
        lambda data: data[:3000] + bytes(20) + data[3020:],
        lambda data: data.replace(b'"seed":1', b'"seed":x'),
        lambda data: data.replace(b"dyeworks", b"otherwis"),
    ],
)
def test_a_damaged_object_is_as_none(folder: FolderStore, damage: Callable[[bytes], bytes]) -> None:
    cache = RenderCache(folder, "adire", WAY)
    cache.add("m", "rings", {1: (picture(1), 0.5)})
    key = cache.key("m", "rings")
    folder.write(key, damage(folder.read(key)))
    assert cache.read("m", "rings") == {}
    cache.add("m", "rings", {1: (picture(1), 0.5)})
    assert list(cache.read("m", "rings")) == [1]


def test_a_strip_can_be_looked_at(folder: FolderStore) -> None:
    cache = RenderCache(folder, "adire", WAY)
    cache.add("m", "rings", {1: (picture(1), 0.5), 2: (picture(2), 0.5)})
    with Image.open(io.BytesIO(folder.read(cache.key("m", "rings")))) as strip:
        assert strip.size == (128, 64)


def test_real_renders_are_made_once(pipelines: dict[str, Path], folder: FolderStore) -> None:
    base = str(pipelines["sd15"])
    cache = RenderCache(folder, "adire", way_of(base, "cpu", SPEC, 64))
    prompts, seeds = ["large rings", "small dots"], [1, 2]
    first = list(RenderSession(cache, lambda: Renderer(base, "cpu")).draw(EvaluatedModel(), prompts, seeds))
    images, _ = Renderer(base, "cpu").render(prompts, [1, 1], 2, 2.0, 64)
    for drawn, image in zip(first, images, strict=True):
        assert np.allclose(np.asarray(drawn.pictures[0], int), np.asarray(image, int), atol=1), "one generator an image"

    def never() -> Renderer:
        raise AssertionError("a pipeline is made for nothing")

    again = list(RenderSession(cache, never).draw(EvaluatedModel(), prompts, seeds))
    assert [d.seconds for d in again] == [d.seconds for d in first]
    assert [p.tobytes() for d in again for p in d.pictures] == [p.tobytes() for d in first for p in d.pictures]


def test_an_adapter_that_is_not_a_number_is_not_evaluated(
    pipelines: dict[str, Path], folder: FolderStore, tmp_path: Path
) -> None:
    base = str(pipelines["sd15"])
    place = tmp_path / "adapter"
    place.mkdir()
    module, nan = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", float("nan")
    halves = {"lora_A": torch.full((2, 64), nan), "lora_B": torch.ones(64, 2)}
    save_file({f"unet.{module}.{half}.weight": tensor for half, tensor in halves.items()}, place / WEIGHTS)
    studio = RenderSession(RenderCache(folder, "adire", way_of(base, "cpu", SPEC, 64)), lambda: Renderer(base, "cpu"))
    with pytest.raises(ModelUnusable, match="that are no finite numbers"):
        list(studio.draw(EvaluatedModel.of(place), ["rings"], [1]))
    assert not list(folder.list("models/adire/renders/"))


def test_two_evaluations_at_once_draw_the_same(folder: FolderStore) -> None:
    def draw(_: int) -> list[bytes]:
        studio = RenderSession(RenderCache(folder, "adire", WAY), lambda: Painter({}))
        return [p.tobytes() for d in studio.draw(EvaluatedModel(), prompts, [1, 2, 3]) for p in d.pictures]

    prompts = [f"{size} {motif} in adire_style" for size in SIZES for motif in MOTIFS[:4]]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(draw, range(2))
    assert first == second
    for prompt in prompts:
        assert set(RenderCache(folder, "adire", WAY).read("base", prompt)) == {1, 2, 3}


def test_what_a_model_does_not_finish_is_black_and_marked(pipelines: dict[str, Path]) -> None:
    renderer = Renderer(str(pipelines["sd15"]), "cpu")
    good, _ = renderer.render(["rings"], [1], 2, 2.0)
    torch.nn.init.constant_(renderer.pipe.unet.conv_out.bias, float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (bad,), _ = renderer.render(["rings"], [1], 2, 2.0)
    assert (image_fault(good[0]), image_fault(bad)) == ("", "not a number")
    assert bad.getextrema() == ((0, 0),) * 3


@pytest.mark.parametrize(
    ("colour", "noise", "fault"),
    [((0, 0, 0), 0, "black"), ((2, 2, 2), 1, "black"), ((200, 40, 40), 1, "of one colour"), ((90, 90, 90), 20, "")],
)
def test_pictures_that_show_nothing(colour: tuple[int, ...], noise: float, fault: str) -> None:
    drawn = np.array(colour) + np.random.default_rng(0).normal(0, noise, (64, 64, 3))
    assert image_fault(Image.fromarray(np.clip(drawn, 0, 255).astype(np.uint8))) == fault


def test_the_hash_knows_copies_and_nothing_else() -> None:
    kinds = [(motif, size, seed) for motif in MOTIFS[:5] for size in SIZES for seed in range(4)]
    originals = [adire(*kind) for kind in kinds]
    others = [adire(motif, size, seed + 100) for motif, size, seed in kinds]
    noise = np.random.default_rng(0).normal(0, 4, (len(kinds), 64, 64, 3))
    grainy = [
        Image.fromarray(np.clip(np.asarray(p) + n, 0, 255).astype(np.uint8))
        for p, n in zip(originals, noise, strict=True)
    ]
    pale = [ImageEnhance.Contrast(p).enhance(0.7).resize((256, 256)) for p in originals]
    known = hashes(originals)
    assert known.shape == (40, 64)
    assert (distances(known, known) == 0).all()
    assert np.mean(distances(hashes(grainy), known) <= 4) > 0.95
    assert np.mean(distances(hashes(pale), known) <= 4) > 0.95
    assert np.mean(distances(hashes(others), known) <= 4) < 0.05
    assert distinct(np.concatenate([known, known]), 0) == list(range(40))
    assert (distances(known, known[:0]) == 64).all()


def test_nearness_counts_only_beyond_what_is_usual() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    usual, limit = nearest(rows, 0.99)
    assert limit is not None
    assert usual < limit < 1
    originals = References(rows, rows, hashes([]), usual, limit)
    near = originals.nearness(np.concatenate([rows[:3], np.zeros((1, 16), np.float32)]))
    assert near[:3] == pytest.approx(1.0)
    assert near[3] == pytest.approx(usual), "to be unlike them all is no merit"
    assert nearest(rows[:5], 0.99) == (-1.0, None)


def test_a_long_set_is_shown_in_parts() -> None:
    prompts = tuple(str(i) for i in range(56))
    shown = spread(prompts)
    assert (len(shown), shown[0], shown[-1]) == (ROWS, "0", "55")
    assert spread(prompts[:5]) == prompts[:5]


def test_pictures_that_a_later_version_has_kept_are_read(folder: FolderStore) -> None:
    cache = RenderCache(folder, "adire", WAY)
    cache.add("m", "rings", {1: (picture(1), 0.5)})
    with Image.open(io.BytesIO(folder.read(cache.key("m", "rings")))) as opened:
        facts = json.loads(str(opened.info["dyeworks"]))
        info = PngImagePlugin.PngInfo()
        info.add_text("dyeworks", json.dumps(facts | {"added": 1, "shots": [facts["shots"][0] | {"added": 1}]}))
        opened.save(buffer := io.BytesIO(), "PNG", pnginfo=info)
    folder.write(cache.key("m", "rings"), buffer.getvalue())
    assert cache.read("m", "rings")[1][0].tobytes() == picture(1).tobytes()
