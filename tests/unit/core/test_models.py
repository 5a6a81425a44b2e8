"""What names a base model and a scorer: their weights, wherever they lie."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.models import base_fingerprint, scorer_fingerprint
from tasks.core.settings import EMBEDDED_FOLDER, Settings

WEIGHTS = Path("unet") / "diffusion_pytorch_model.safetensors"


def base(folder: Path) -> str:
    return base_fingerprint(Settings(base_model=str(folder)))


def scorer(folder: Path) -> str:
    return scorer_fingerprint(Settings(clip=f"local-dir:{folder}"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with weights of two parts, by their look: nothing here reads them."""
    for part, data in (("unet", b"denoises"), ("vae", b"encodes")):
        (tmp_path / "model" / part).mkdir(parents=True)
        (tmp_path / "model" / part / "diffusion_pytorch_model.safetensors").write_bytes(data)
    (tmp_path / "model" / "README.md").write_text("mine")
    return tmp_path / "model"


named = pytest.mark.parametrize("name", [base, scorer])


@named
def test_an_edited_weight_file_gives_another_name(name: Callable[[Path], str], model: Path) -> None:
    before = name(model)
    assert before.startswith("local-")
    (model / WEIGHTS).write_bytes(b"denoises better")
    assert name(model) != before


@named
def test_an_edit_that_keeps_the_size_is_seen_by_its_time(name: Callable[[Path], str], model: Path) -> None:
    before, time = name(model), (model / WEIGHTS).stat().st_mtime_ns
    (model / WEIGHTS).write_bytes(b"DENOISES")
    os.utime(model / WEIGHTS, ns=(time + 1, time + 1))
    assert name(model) != before


@named
def test_a_moved_or_copied_folder_keeps_its_name(name: Callable[[Path], str], model: Path) -> None:
    before = name(model)
    shutil.copytree(model, model.with_name("copy"))
    (model.with_name("copy") / "README.md").write_text("yours")
    model.rename(model.with_name("moved"))
    assert name(model.with_name("moved")) == name(model.with_name("copy")) == before


@named
def test_weights_are_not_read_again_while_time_and_size_are_the_same(name: Callable[[Path], str], model: Path) -> None:
    before, time = name(model), (model / WEIGHTS).stat().st_mtime_ns
    (model / WEIGHTS).write_bytes(b"DENOISES")
    os.utime(model / WEIGHTS, ns=(time, time))
    assert name(model) == before


def test_the_same_weights_in_other_parts_are_another_model(model: Path) -> None:
    before = base(model)
    (model / "unet").rename(model / "swapped")
    (model / "vae").rename(model / "unet")
    (model / "swapped").rename(model / "vae")
    assert base(model) != before


def test_a_link_is_what_it_points_to(model: Path) -> None:
    weights = model / WEIGHTS
    before = base(model)
    weights.rename(model.parent / "blob")
    weights.symlink_to(model.parent / "blob")
    assert base(model) == before
    (model.parent / "blob").write_bytes(b"another")
    assert base(model) != before


@pytest.mark.parametrize("name", ["stable-diffusion-v1-5/stable-diffusion-v1-5", "someone/model@0f2b3c"])
def test_a_model_of_the_hub_is_named_by_id_and_revision(name: str) -> None:
    assert base_fingerprint(Settings(base_model=name)) == name


def test_the_embedded_base_is_named_as_it_was_and_a_copy_by_the_same_weights() -> None:
    embedded, copied = base_fingerprint(Settings()), base(EMBEDDED_FOLDER / "pipeline")
    assert (embedded.partition("-")[0], copied.partition("-")[0]) == ("embedded", "local")
    assert embedded.partition("-")[2] == copied.partition("-")[2]
