"""A fast renderer draws what a plain one draws, and gives the base back as it was."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from peft import LoraConfig
from torch import Tensor

from tasks.core.errors import ModelUnusable
from tasks.core.models.families import family_of
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.pipeline import load_pipeline
from tasks.core.models.rendering import Renderer
from tests import loras
from tests.pipelines import FAMILIES

TOLERANCE, MEAN = 2, 0.02  # of 255: the most that any value differs, and the mean of all
CONVOLUTIONS = ["to_q", "to_v", "proj_in", "net.2", "conv1", "conv2", "time_emb_proj"]


def drawn(renderer: Renderer, number: int = 2) -> npt.NDArray[np.int64]:
    prompts = [f"{i} large rings in adire_style" for i in range(number)]
    pictures, _ = renderer.render(prompts, list(range(number)), 4, 4.0)
    return np.stack([np.asarray(picture).astype(np.int64) for picture in pictures])


def weights(renderer: Renderer) -> dict[str, Tensor]:
    """The base's own, without the adapters'."""
    parts = {name: part for name, part in renderer.pipe.components.items() if isinstance(part, torch.nn.Module)}
    named = ((f"{name}.{key}", value) for name, part in parts.items() for key, value in part.state_dict().items())
    return {key.replace(".base_layer", ""): value for key, value in named if ".lora_" not in key}


def memory() -> int:
    """Bytes of all tensors that are reachable."""
    gc.collect()
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _tensors()}
    return sum(storages.values())


def _tensors() -> Iterator[Tensor]:
    for found in gc.get_objects():
        if type(found) in (Tensor, torch.nn.Parameter):
            yield found


def adapter(base: str, folder: Path, seed: int, dora: bool = False, std: float = 0.05) -> Path:
    """A LoRA with random weights for linear layers and convolutions."""
    family = family_of(load_pipeline(base, "cpu"))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        family.pipe.unet.add_adapter(LoraConfig(r=3, lora_alpha=6, target_modules=CONVOLUTIONS, use_dora=dora))
        for name, parameter in family.pipe.unet.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                torch.nn.init.normal_(parameter, std=std)
    folder.mkdir()
    family.save(folder)
    return folder


def alike(some: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> bool:
    difference = np.abs(some - others)
    return bool(difference.max() <= TOLERANCE and difference.mean() <= MEAN)


@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize("dora", [False, True])
def test_pictures_of_the_embedded_base_are_those_of_a_plain_renderer(tmp_path: Path, number: int, dora: bool) -> None:
    folder = adapter("embedded", tmp_path / "a", 1, dora)
    plain, fast = Renderer("embedded", "cpu"), Renderer("embedded", "cpu", fast=True)
    bare = drawn(plain, number)
    assert alike(drawn(fast, number), bare)
    for renderer in (plain, fast):
        renderer.load(folder, "a")
        renderer.activate("a")
    expected = drawn(plain, number)
    assert np.abs(expected - bare).mean() > 1, "the LoRA shows"
    assert alike(drawn(fast, number), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_module_that_a_lora_can_adapt_is_fused(pipelines: dict[str, Path], name: str, tmp_path: Path) -> None:
    plain, fast = Renderer(str(pipelines[name]), "cpu"), Renderer(str(pipelines[name]), "cpu", fast=True)
    made = loras.made(loras.shapes_of(plain.pipe), loras.peft, 3)
    tensors = {key: tensor.float() * (0.1 if "lora_" in key else 1) for key, tensor in made.tensors.items()}
    (tmp_path / WEIGHTS).write_bytes(loras.Made(tensors, {}).bytes())
    before = {key: value.clone() for key, value in weights(fast).items()}
    for renderer in (plain, fast):
        renderer.load(tmp_path, "it")
        renderer.activate("it")
    changed = {key for key, value in weights(fast).items() if not torch.equal(value, before[key])}
    assert changed == {f"{module}.weight" for module in made.deltas}
    for module, delta in made.deltas.items():
        sum_ = before[f"{module}.weight"].double().numpy() + delta * 0.01
        np.testing.assert_allclose(weights(fast)[f"{module}.weight"].numpy(), sum_, atol=1e-5, rtol=1e-4)
    assert alike(drawn(fast), drawn(plain))


def test_adapters_that_take_turns_draw_the_same_each_time_and_leave_the_base_as_it_was(tmp_path: Path) -> None:
    fast = Renderer("embedded", "cpu", fast=True)
    before = {key: value.clone() for key, value in weights(fast).items()}
    first = {"": drawn(fast)}
    for seed, name in enumerate("ab"):
        fast.load(adapter("embedded", tmp_path / name, seed), name)
    for name in "ab":
        fast.activate(name)
        first[name] = drawn(fast)
    for name in ("", "b", "a", "b", "", "a", "a", ""):
        fast.activate(name)
        assert np.array_equal(drawn(fast), first[name]), name
    assert all(torch.equal(value, before[key]) for key, value in weights(fast).items())
    fast.activate("a")
    fast.load(adapter("embedded", tmp_path / "c", 7), "c")
    assert np.array_equal(drawn(fast), first["a"]), "loading another changes nothing"
    fast.unload("c")
    fast.unload("b")
    assert np.array_equal(drawn(fast), first["a"]), "nor does unloading one"
    fast.activate("")
    fast.unload("a")
    assert np.array_equal(drawn(fast), first[""])
    assert all(torch.equal(value, before[key]) for key, value in weights(fast).items())


@pytest.mark.parametrize("dora", [False, True])
def test_memory_does_not_grow_with_switches(tmp_path: Path, dora: bool) -> None:
    fast = Renderer("embedded", "cpu", fast=True)
    folder = adapter("embedded", tmp_path / "a", 1, dora)

    def turn(number: int) -> int:
        fast.load(folder, f"release-{number}")
        fast.activate(f"release-{number}")
        fast.activate("")
        fast.unload(f"release-{number}")
        return memory()

    sizes = [turn(number) for number in range(6)]
    assert sizes[1:] == sizes[1:2] * 5


def test_an_adapter_that_cannot_be_added_leaves_the_active_one(tmp_path: Path) -> None:
    fast = Renderer("embedded", "cpu", fast=True)
    for seed, name in enumerate("ab"):
        fast.load(adapter("embedded", tmp_path / name, seed), name)
    fast.activate("a")
    expected = drawn(fast)
    layers = [m for m in fast.pipe.unet.modules() if "b" in getattr(m, "lora_B", {})]
    layers[-1].lora_B["b"].weight.data.fill_(float("inf"))
    with pytest.raises(ModelUnusable, match="cannot be added to the base"):
        fast.activate("b")
    assert fast.active == "a"
    assert np.array_equal(drawn(fast), expected)


def test_half_precision_is_not_fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = load_pipeline("embedded", "cpu", torch.bfloat16)
    monkeypatch.setattr("tasks.core.models.rendering.load_pipeline", lambda *_: half)
    renderer = Renderer("embedded", "cpu", fast=True)
    renderer.load(adapter("embedded", tmp_path / "a", 1), "a")
    renderer.activate("a")
    assert not any(getattr(module, "merged", False) for module in renderer.pipe.unet.modules())
