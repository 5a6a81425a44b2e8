"""Training material: encoded once for a content, never stale, in memory or mapped from files."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tasks.core.config.training import TrainSpec
from tasks.core.models.families import Family, family_of
from tasks.core.models.pipeline import load_pipeline
from tasks.core.training import latent_cache as caching
from tasks.core.training.dataset import Material, TrainingPicture, drawn, prepare
from tasks.core.training.latent_cache import LatentCache, keep, kept, shelve

SPEC = TrainSpec(resolution=64)


@pytest.fixture(scope="module")
def family(pipelines: dict[str, Path]) -> Family:
    return family_of(load_pipeline(str(pipelines["sd15"]), "cpu", torch.float32))


def pictures(count: int = 3, seed: int = 0) -> list[TrainingPicture]:
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 255, (80, 64, 3), dtype=np.uint8)) for _ in range(count)]
    return [drawn(image, f"picture {i % 2}") for i, image in enumerate(images)]


def never(why: str) -> Callable[[], Image.Image]:
    def decode() -> Image.Image:
        raise AssertionError(why)

    return decode


def known(made: list[TrainingPicture]) -> list[TrainingPicture]:
    return [TrainingPicture(p.sha256, p.caption, never("it is in the cache")) for p in made]


def equal(one: Material, other: Material) -> bool:
    rows = range(len(one))
    return all(torch.equal(one.take(r)[0][n], other.take(r)[0][n]) for r in rows for n in ("mean", "deviation"))


def test_a_known_picture_is_not_even_decoded(family: Family, tmp_path: Path) -> None:
    made = pictures()
    first = prepare(family, made, SPEC, tmp_path)
    assert first.take(0)[0]["mean"].shape == (4, 8, 8)
    assert first.take(0)[0]["deviation"].min() > 0
    assert equal(first, prepare(family, known(made), SPEC, tmp_path))


def test_equal_captions_are_one_text(family: Family, tmp_path: Path) -> None:
    made = prepare(family, pictures(), SPEC, tmp_path)
    assert made.text_of == [0, 1, 0]
    assert len(list((tmp_path / "texts").iterdir())) == 2
    assert torch.equal(made.take(2)[1]["hidden"], family.encode_texts(["picture 0"])["hidden"][0])


def test_an_edited_picture_is_encoded_anew(family: Family, tmp_path: Path) -> None:
    before = pictures(1)
    first = prepare(family, before, SPEC, tmp_path)
    image = before[0].decode()
    image.paste("white", (0, 0, 64, 64))
    edited = drawn(image, before[0].caption)
    assert edited.sha256 != before[0].sha256
    assert not equal(first, prepare(family, [edited], SPEC, tmp_path))


@pytest.mark.parametrize("change", [{"resolution": 32}, {"crop": "random"}, {"buckets": True, "bucket_step": 16}])
def test_another_transform_is_encoded_anew(change: dict[str, object], family: Family, tmp_path: Path) -> None:
    made = pictures()
    prepare(family, made, SPEC, tmp_path)
    other = SPEC.model_validate(SPEC.model_dump() | change)
    with pytest.raises(AssertionError, match="in the cache"):
        prepare(family, known(made), other, tmp_path)
    prepare(family, made, other, tmp_path)
    prepare(family, known(made), SPEC, tmp_path)


def test_another_autoencoder_encodes_anew(family: Family, pipelines: dict[str, Path], tmp_path: Path) -> None:
    made = pictures()
    prepare(family, made, SPEC, tmp_path)
    pipe = load_pipeline(str(pipelines["sd15"]), "cpu", torch.float32)
    with torch.no_grad():
        pipe.vae.encoder.conv_in.weight.add_(0.01)
    with pytest.raises(AssertionError, match="in the cache"):
        prepare(family_of(pipe), known(made), SPEC, tmp_path)


def test_a_damaged_file_is_made_again(family: Family, tmp_path: Path) -> None:
    made = pictures(1)
    first = prepare(family, made, SPEC, tmp_path)
    (file,) = (tmp_path / "latents").iterdir()
    whole = file.read_bytes()
    for damaged in (whole[:-4], whole[:5], b""):
        file.write_bytes(damaged)
        assert equal(first, prepare(family, made, SPEC, tmp_path))
    assert file.read_bytes() == whole


def test_flips_and_crops_are_variants_of_a_picture(family: Family, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"flip": True, "crop": "random", "crops": 2})
    made = prepare(family, pictures(), spec, tmp_path)
    assert (len(made), made.variants, len(made.latents)) == (3, 4, 12)
    means = [made.take(1, variant)[0]["mean"] for variant in range(4)]
    assert not any(torch.equal(means[i], means[j]) for i in range(4) for j in range(i))


def test_what_does_not_fit_into_memory_is_mapped_and_the_same(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for i, path in enumerate(paths):
        keep(path, {"x": torch.full((100,), float(i))})
    inside, mapped = LatentCache(paths), LatentCache(paths, room=100)
    assert len(inside.memory) == 3
    assert not mapped.memory
    assert [float(found["x"][0]) for found in mapped] == [float(found["x"][0]) for found in inside] == [0, 1, 2]


def test_two_at_once_both_find_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=30)

    def together(*args: Any) -> None:
        both.wait()
        save_file(*args)

    monkeypatch.setattr(caching, "save_file", together)
    found: list[LatentCache] = []

    def run() -> None:
        names = ["a", "b"]
        found.append(shelve(tmp_path, names, lambda missing: ({"x": torch.arange(5) * 1.0} for _ in missing)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert all(torch.equal(shelf[1]["x"], torch.arange(5) * 1.0) for shelf in found)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_what_is_not_there_is_told_by_none(tmp_path: Path) -> None:
    assert kept(tmp_path / "nothing.safetensors") is None
