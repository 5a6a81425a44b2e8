"""Every module gets alpha / rank * up @ down of its file, or nothing is loaded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import set_peft_model_state_dict
from safetensors.torch import save_file

from tasks.core.errors import LoraUnusable, ModelUnusable
from tasks.core.models import adapters
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.lora_file import CONFIG, METADATA
from tasks.core.models.pipeline import load_pipeline
from tasks.core.models.rendering import Renderer
from tests import loras

NAMERS = [
    ("sd15", loras.kohya),
    ("sd2", loras.kohya),
    ("sdxl", loras.kohya_xl),
    ("sd15", loras.peft),
    ("sdxl", loras.peft),
    ("sd15", loras.old),
    ("sd2", loras.old),
]
FEW = settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def load(renderer: Renderer, folder: Path, data: bytes) -> dict[str, loras.Delta]:
    """What each module got of a file, which is unloaded again."""
    (folder / WEIGHTS).write_bytes(data)
    renderer.load(folder, "it")
    found = loras.added(renderer.pipe, "it")
    renderer.unload("it")
    return found


def refused(renderer: Renderer, folder: Path, data: bytes) -> str:
    """The error that a file is refused with."""
    with pytest.raises(ModelUnusable) as caught:
        load(renderer, folder, data)
    return str(caught.value)


def agree(found: dict[str, loras.Delta], expected: dict[str, loras.Delta]) -> None:
    assert found.keys() == expected.keys()
    for name, delta in expected.items():
        np.testing.assert_allclose(found[name], delta, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("family", "namer"), NAMERS, ids=lambda value: getattr(value, "__name__", value))
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_each_module_gets_what_the_file_says(
    renderers: dict[str, Renderer],
    shapes: dict[str, loras.Shapes],
    family: str,
    namer: loras.Namer,
    tmp_path: Path,
    seed: int,
) -> None:
    made = loras.made(shapes[family], namer, seed)
    agree(load(renderers[family], tmp_path, made.bytes()), made.deltas)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_tensors_of_any_precision(
    sd15: Renderer, shapes: dict[str, loras.Shapes], tmp_path: Path, dtype: torch.dtype
) -> None:
    made = loras.made(shapes["sd15"], loras.kohya, 1, dtype=dtype)
    agree(load(sd15, tmp_path, made.bytes()), made.deltas)


def scaled(made: loras.Made, scale: dict[str, float]) -> dict[str, loras.Delta]:
    return {name: scale.get(name, 1.0) * delta for name, delta in made.deltas.items()}


def ranks(made: loras.Made) -> dict[str, int]:
    return {
        name.removesuffix(".lora_A.weight").removeprefix("base_model.model."): len(tensor)
        for name, tensor in made.tensors.items()
        if name.endswith("lora_A.weight")
    }


@pytest.mark.parametrize("rooted", [False, True])
def test_alpha_may_lie_in_the_metadata(
    sd15: Renderer, shapes: dict[str, loras.Shapes], tmp_path: Path, rooted: bool
) -> None:
    made = loras.made(shapes["sd15"], loras.without_alpha, 2)
    config = {"lora_alpha": 6, "alpha_pattern": {"conv_in": 2.5}, "use_rslora": rooted, "r": 4}
    configs = {f"{part}.{key}": v for part in ("unet", "text_encoder") for key, v in config.items()}
    alphas = {name: 2.5 if name == "unet.conv_in" else 6 for name in ranks(made)}
    scale = {name: alphas[name] / (rank**0.5 if rooted else rank) for name, rank in ranks(made).items()}
    agree(load(sd15, tmp_path, made.bytes({METADATA: json.dumps(configs)})), scaled(made, scale))


def test_a_file_of_peft_has_its_alpha_beside_it(
    sd15: Renderer, shapes: dict[str, loras.Shapes], tmp_path: Path
) -> None:
    made = loras.made(shapes["sd15"], loras.dotted, 3)
    assert f"without its {CONFIG}, which holds alpha" in refused(sd15, tmp_path, made.bytes())
    (tmp_path / CONFIG).write_text(json.dumps({"lora_alpha": 3, "peft_type": "LORA"}))
    scale = {f"unet.{name}": 3 / rank for name, rank in ranks(made).items()}
    agree(load(sd15, tmp_path, made.bytes()), scaled(made, scale))
    (tmp_path / CONFIG).write_text("{")
    assert f"has {CONFIG} that is no JSON" in refused(sd15, tmp_path, made.bytes())


def test_the_text_encoder_is_as_it_was_when_the_next_adapter_has_none(
    sd15: Renderer, shapes: dict[str, loras.Shapes], tmp_path: Path
) -> None:
    both = loras.made(shapes["sd15"], loras.kohya, 4)
    alone = {n: t for n, t in loras.made(shapes["sd15"], loras.kohya, 4).tensors.items() if n.startswith("lora_unet_")}
    assert alone.keys() < both.tensors.keys()
    for name, tensors in {"both": both.tensors, "unet": alone}.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / WEIGHTS)
        sd15.load(tmp_path / name, name)
    prompt = sd15.pipe.tokenizer("rings", return_tensors="pt").input_ids

    def encoded(name: str) -> torch.Tensor:
        sd15.activate(name)
        sd15.render(["rings"], [0], 1, 2.0)
        with torch.no_grad():
            hidden: torch.Tensor = sd15.pipe.text_encoder(prompt).last_hidden_state
        return hidden

    bare = encoded("")
    assert not torch.allclose(encoded("both"), bare)
    assert torch.equal(encoded("unet"), bare)
    assert torch.equal(encoded(""), bare)
    for name in ("both", "unet"):
        sd15.unload(name)


def test_one_that_is_loaded_wrongly_is_refused(
    sd15: Renderer, shapes: dict[str, loras.Shapes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubling(model: Any, tensors: dict[str, torch.Tensor], **named: str) -> None:
        twice = {name: tensor * 2 if "attn1.to_k" in name else tensor for name, tensor in tensors.items()}
        set_peft_model_state_dict(model, twice, **named)

    monkeypatch.setattr(adapters, "set_peft_model_state_dict", doubling)
    made = loras.made(shapes["sd15"], loras.kohya, 5, share=1.0)
    assert "was not loaded as it is into 4 modules, such as unet.down_" in refused(sd15, tmp_path, made.bytes())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_base_in_half_precision(
    pipelines: dict[str, Path], shapes: dict[str, loras.Shapes], tmp_path: Path, dtype: torch.dtype
) -> None:
    pipe = load_pipeline(str(pipelines["sd15"]), "cpu", dtype)
    made = loras.made(shapes["sd15"], loras.kohya, 8, dtype=dtype)
    (tmp_path / WEIGHTS).write_bytes(made.bytes())
    state = torch.get_rng_state()
    adapters.load_adapter(pipe, tmp_path / WEIGHTS, "it")
    assert torch.equal(torch.get_rng_state(), state)
    layer = pipe.unet.conv_in
    assert {layer.lora_A["it"].weight.dtype, layer.lora_B["it"].weight.dtype} == {dtype}
    found = loras.added(pipe.to(torch.float32), "it")
    agree(found, made.deltas)


def test_values_beyond_the_precision_of_the_base_are_refused(
    pipelines: dict[str, Path], shapes: dict[str, loras.Shapes], tmp_path: Path
) -> None:
    pipe = load_pipeline(str(pipelines["sd15"]), "cpu", torch.float16)
    made = loras.made(shapes["sd15"], loras.old, 8)
    save_file({name: tensor * 1e6 for name, tensor in made.tensors.items()}, tmp_path / WEIGHTS)
    with pytest.raises(LoraUnusable, match=r"has values for .* that go beyond torch\.float16"):
        adapters.load_adapter(pipe, tmp_path / WEIGHTS, "other")
