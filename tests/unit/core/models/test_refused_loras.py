"""A file that cannot be applied whole is refused in few words, and nothing of it is left in the base."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tasks.core.errors import ModelUnusable
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.lora_file import METADATA
from tasks.core.models.rendering import Renderer
from tests import loras
from tests.unit.core.models.test_adapters import refused

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
    made = loras.made(shapes["sd15"], loras.without_alpha, 7)
    assert "is no LoRA for this base: it has" in refused(sd15, tmp_path, made.bytes({METADATA: text}))
