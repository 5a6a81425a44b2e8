"""Every module gets alpha / rank * up @ down of its file, or nothing is loaded and the error says why."""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import set_peft_model_state_dict
from safetensors.torch import save_file

from tasks.core.errors import LoraUnusable, ModelUnusable
from tasks.core.models import adapters
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.lora_file import CONFIG, METADATA
from tasks.core.models.lora_names import key_of, places
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


@pytest.fixture(scope="module")
def renderers(pipelines: dict[str, Path]) -> dict[str, Renderer]:
    return {name: Renderer(str(folder), "cpu") for name, folder in pipelines.items()}


@pytest.fixture(scope="module")
def shapes(renderers: dict[str, Renderer]) -> dict[str, loras.Shapes]:
    return {name: loras.shapes_of(renderer.pipe) for name, renderer in renderers.items()}


@pytest.fixture
def sd15(renderers: dict[str, Renderer]) -> Iterator[Renderer]:
    yield renderers["sd15"]
    assert not any(renderers["sd15"].pipe.get_list_adapters().values()), "what was refused left something behind"


def load(renderer: Renderer, folder: Path, data: bytes) -> dict[str, loras.Delta]:
    """What each module got of a file, which is unloaded again."""
    (folder / WEIGHTS).write_bytes(data)
    renderer.load(folder, "it")
    found = loras.added(renderer.pipe, "it")
    renderer.unload("it")
    return found


def refused(renderer: Renderer, folder: Path, data: bytes) -> str:
    with pytest.raises(ModelUnusable) as told:
        load(renderer, folder, data)
    return str(told.value)


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


def without_alpha(component: str, module: str) -> dict[str, str]:
    return {part: name for part, name in loras.peft(component, module).items() if part != "alpha"}


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
    made = loras.made(shapes["sd15"], without_alpha, 2)
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


LINEAR = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
PAIR = {f"{LINEAR}.lora_down.weight": torch.ones(4, 64), f"{LINEAR}.lora_up.weight": torch.ones(64, 4)}
DOWN, UP, ALPHA = f"{LINEAR}.lora_down.weight", f"{LINEAR}.lora_up.weight", f"{LINEAR}.alpha"
ONE = torch.ones(64, 64)


def with_(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return PAIR | {f"{LINEAR}.{name.replace('__', '.')}": tensor for name, tensor in tensors.items()}


REFUSED = {
    "LoHa": (with_(hada_w1_a=ONE), r"a tensor of LoHa"),
    "LoKr": (with_(lokr_w1=ONE), r"a tensor of LoKr"),
    "LoKr alone": ({f"{LINEAR}.lokr_w1": ONE, f"{LINEAR}.lokr_w2": ONE, ALPHA: torch.tensor(1.0)}, "a tensor of LoKr"),
    "OFT": (with_(oft_blocks=ONE), r"a tensor of OFT"),
    "GLoRA": (with_(a1__weight=ONE), r"a tensor of GLoRA"),
    "IA3": ({f"{LINEAR}.weight": ONE, f"{LINEAR}.on_input": torch.tensor(1)}, "a tensor of IA3"),
    "differences": (with_(diff=ONE), r"full differences of weights"),
    "differences of biases": (with_(diff_b=torch.ones(64)), r"full differences of weights"),
    "Tucker": (with_(lora_mid__weight=ONE), r"LoCon with a Tucker decomposition"),
    "DoRA": (with_(dora_scale=torch.ones(64, 1)), r"DoRA in kohya's format"),
    "biases": (with_(lora_B__bias=torch.ones(64)), r"a LoRA with biases"),
    "a half": ({DOWN: PAIR[DOWN]}, "lacks the other half of the pair of"),
    "an alpha alone": (PAIR | {"lora_unet_conv_in.alpha": torch.tensor(1.0)}, "the pair of 'lora_unet_conv_in'"),
    "alpha 0": (with_(alpha=torch.tensor(0.0)), "has alpha 0 for"),
    "alpha inf": (with_(alpha=torch.tensor(float("inf"))), "not one finite number"),
    "alpha NaN": (with_(alpha=torch.tensor(float("nan"))), "not one finite number"),
    "alpha 1e30": (with_(alpha=torch.tensor(1e30)), r"adds up to .* to unet\.mid_block"),
    "two alphas": (with_(alpha=torch.ones(2)), "not one finite number"),
    "NaN": (PAIR | {UP: torch.full((64, 4), float("nan"))}, r"that are no finite numbers"),
    "inf": (PAIR | {DOWN: torch.full((4, 64), float("inf"))}, r"that are no finite numbers"),
    "beyond": (PAIR | {DOWN: torch.full((4, 64), 1e300, dtype=torch.float64)}, r"no finite numbers"),
    "whole numbers": (PAIR | {DOWN: torch.ones(4, 64, dtype=torch.int8)}, r"no finite numbers"),
    "two ranks": (PAIR | {UP: torch.ones(64, 3)}, r"which are of two ranks"),
    "rank 0": (PAIR | {DOWN: torch.ones(0, 64), UP: torch.ones(64, 0)}, r"which are no pair of matrices"),
    "a vector": (PAIR | {DOWN: torch.ones(64), UP: torch.ones(64)}, r"which are no pair of matrices"),
    "another width": (PAIR | {DOWN: torch.ones(4, 320)}, r"does not fit unet\.mid_block.*\[4, 320\]"),
    "another height": (PAIR | {UP: torch.ones(320, 4)}, r"does not fit unet\.mid_block.*\[320, 4\]"),
    "a convolution": (PAIR | {DOWN: torch.ones(4, 64, 3, 3)}, r"does not fit unet\.mid_block"),
    "no module": (PAIR | {DOWN.replace("to_q", "to_x"): PAIR[DOWN], UP.replace("to_q", "to_x"): PAIR[UP]}, "to_x'"),
    "twice": (PAIR | {"unet." + n.removeprefix("lora_unet_"): t for n, t in PAIR.items()}, "twice"),
    "one half twice": (with_(lora_A__weight=PAIR[DOWN]), "holds both"),
    "text encoder alone": (
        {
            "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 768),
            "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(64, 2),
        },
        "adapts the text encoder alone",
    ),
    "magnitudes of some": (
        PAIR
        | {
            "unet.conv_in.lora_A.weight": torch.ones(1, 4, 3, 3),
            "unet.conv_in.lora_B.weight": torch.ones(32, 1, 1, 1),
            "unet.conv_in.lora_magnitude_vector": torch.ones(1, 32, 1, 1),
        },
        "DoRA's magnitudes for only some modules of the unet",
    ),
}


@pytest.mark.parametrize(("tensors", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_would_be_half_applied_is_refused(
    sd15: Renderer, tmp_path: Path, tensors: dict[str, torch.Tensor], said: str
) -> None:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / WEIGHTS)
    with pytest.raises(ModelUnusable, match=f"is no LoRA for this base: it .*{said}"):
        sd15.load(tmp_path, "it")


SIZE = 4 * 64 * 4  # bytes of one half


def raw(header: dict[str, Any] | bytes, size: int = 2 * SIZE, length: int | None = None) -> bytes:
    """A safetensors file as no library writes it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + b"\x11" * size


def halves(down: int = 0, up: int = SIZE, dtype: str = "F32", bits: int = 32, name: str = LINEAR) -> dict[str, Any]:
    """A header, with the offsets of both halves."""
    bytes_, places = 4 * 64 * bits // 8, {"lora_down": ([4, 64], down), "lora_up": ([64, 4], up)}
    return {
        f"{name}.{part}.weight": {"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes_]}
        for part, (shape, at) in places.items()
    }


ODD = {
    "nothing": (b"", "header too small"),
    "a header cut off": (raw(halves())[:60], "invalid header length"),
    "a header without end": (raw(halves(), length=2**62), "header too large"),
    "a header of 101 MB": (raw(halves(), length=101_000_000), "header too large"),
    "no UTF-8": (raw(b'{"\xff":{}}'), "invalid UTF-8"),
    "nested": (raw(b"[" * 100_000), "invalid JSON in header"),
    "overlapping": (raw(halves(0, 0), SIZE), "invalid offset"),
    "a hole": (raw(halves(0, SIZE + 4), 2 * SIZE + 4), "invalid offset"),
    "more data": (raw(halves(), 2 * SIZE + 4), "not fully covered"),
    "one name twice": (
        raw(
            b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}',
            8,
        ),
        "invalid offset|not fully covered",
    ),
    "a type of that name": (raw(halves(dtype="Q" * 100_000)), "unknown variant `QQQ"),
    "four bits": (raw(halves(0, 128, "F4", 4), 256), "that can be read|does not fit"),
    "six bits": (raw(halves(0, 192, "F6_E2M3", 6), 384), "Dtype not understood"),
    "complex": (raw(halves(dtype="C64", bits=64, up=2 * SIZE), 4 * SIZE), "no finite numbers"),
    "a path": (raw(halves(name="../../etc/passwd")), "adapts '../../etc/passwd', which the base does not have"),
    "a long name": (raw(halves(name="a." * 500_000)), r"adapts '(a\.){60}', which"),
    "many": (
        raw({f"m{i}.alpha": {"dtype": "U8", "shape": [], "data_offsets": [i, i + 1]} for i in range(20_001)}, 20_001),
        "holds 20001 tensors",
    ),
}


@pytest.mark.parametrize(("data", "said"), ODD.values(), ids=ODD.keys())
def test_an_odd_file_is_refused_in_few_words(sd15: Renderer, tmp_path: Path, data: bytes, said: str) -> None:
    told = refused(sd15, tmp_path, data)
    assert re.search(said, told)
    assert len(told) < 500


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


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "stable-diffusion-xl-v1-base"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "stable-diffusion-xl-v1-base"),
        ({"ss_base_model_version": "flux1"}, "flux1"),
        ({}, "stable-diffusion-xl-v1-base"),
    ],
)
def test_one_for_another_base_is_refused_with_both_named(
    shapes: dict[str, loras.Shapes], sd15: Renderer, tmp_path: Path, metadata: dict[str, str], said: str
) -> None:
    made = loras.made(shapes["sdxl"], loras.kohya_xl, 6)
    told = refused(sd15, tmp_path, made.bytes(metadata))
    assert f"it is a LoRA for {said}, the base is stable-diffusion-v1" in told


def test_the_base_is_told_by_the_width_of_its_texts(sd15: Renderer, tmp_path: Path) -> None:
    name = LINEAR.replace("attn1_to_q", "attn2_to_k")
    tensors = {f"{name}.lora_down.weight": torch.ones(4, 1024), f"{name}.lora_up.weight": torch.ones(64, 4)}
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(ModelUnusable, match="a LoRA for stable-diffusion-v2, the base is stable-diffusion-v1"):
        sd15.load(tmp_path, "it")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"unet.lora_alpha": "8"}',
        '{"unet.alpha_pattern": {"(a+)+$": 1}}',
        "[" * 100_000,
        '{"unet.lora_alpha": 1' + "0" * 4000 + "}",
    ],
)
def test_metadata_that_cannot_be_understood_are_refused(
    sd15: Renderer, shapes: dict[str, loras.Shapes], tmp_path: Path, text: str
) -> None:
    made = loras.made(shapes["sd15"], without_alpha, 7)
    assert "is no LoRA for this base: it has" in refused(sd15, tmp_path, made.bytes({METADATA: text}))


XL_NAMES = {  # of the published checkpoint, as sd-scripts names them
    "input_blocks_4_1_transformer_blocks_1_attn1_to_q": "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q",
    "input_blocks_8_1_proj_in": "down_blocks.2.attentions.1.proj_in",
    "input_blocks_6_0_op": "down_blocks.1.downsamplers.0.conv",
    "middle_block_1_transformer_blocks_9_ff_net_2": "mid_block.attentions.0.transformer_blocks.9.ff.net.2",
    "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
    "output_blocks_5_1_transformer_blocks_0_attn2_to_v": "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_v",
    "output_blocks_8_0_skip_connection": "up_blocks.2.resnets.2.conv_shortcut",
    "input_blocks_1_0_emb_layers_1": "down_blocks.0.resnets.0.time_emb_proj",
    "label_emb_0_2": "add_embedding.linear_2",
    "out_2": "conv_out",
}


def test_names_of_a_full_sized_xl() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )

    class Pipe:
        def __init__(self) -> None:
            self.unet = unet

    found = places(Pipe())
    assert {name: found[key_of(f"lora_unet_{name}")].module for name in XL_NAMES} == XL_NAMES
