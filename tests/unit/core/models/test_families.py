"""Families: what the trainer gives to a UNet is what the pipeline gives to it, on a tiny pipeline of each family."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors import safe_open
from torch import Tensor

from tasks.core.config.presets import load_preset
from tasks.core.errors import ModelUnusable
from tasks.core.models.families import Family, Texts, family_of
from tasks.core.models.identity import EMBEDDED_FOLDER
from tasks.core.models.pipeline import load_pipeline
from tasks.core.training.learner import add_lora
from tests.pipelines import FAMILIES

every_family = pytest.mark.parametrize("name", FAMILIES)

TEXTS = ["large rings in adire_style", "dots", "", "small red stripes on white " * 20]  # the last is cut off
SIZES = torch.tensor([[64, 64, 0, 0, 64, 64], [200, 100, 8, 0, 64, 64]])


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return load_pipeline(str(folder), "cpu", dtype)


def family(pipelines: dict[str, Path], name: str, dtype: torch.dtype = torch.float32) -> Family:
    return family_of(load(pipelines[name], dtype))


def pixels() -> Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def noisy() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([10, 900])


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("sd15", "stable-diffusion-v1/lora"),
        ("sd2", "stable-diffusion-v2/lora"),
        ("sdxl", "stable-diffusion-xl-v1-base/lora"),
    ],
)
def test_a_family_has_its_architecture(pipelines: dict[str, Path], name: str, architecture: str) -> None:
    assert family(pipelines, name).architecture == architecture


def test_the_embedded_base_is_of_no_version() -> None:
    assert family_of(load(EMBEDDED_FOLDER / "pipeline")).architecture == "stable-diffusion/lora"


def test_another_pipeline_is_told_by_its_class(pipelines: dict[str, Path]) -> None:
    pipe = StableDiffusionImg2ImgPipeline(**load(pipelines["sd15"]).components)
    with pytest.raises(ModelUnusable, match="'StableDiffusionImg2ImgPipeline': is no kind of pipeline to train"):
        family_of(pipe)


@every_family
def test_texts_are_those_of_the_pipeline(pipelines: dict[str, Path], name: str) -> None:
    found = family(pipelines, name)
    texts = found.encode_texts(TEXTS)
    with torch.no_grad():
        told = found.pipe.encode_prompt(TEXTS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    names = ("hidden", "pooled") if name == "sdxl" else ("hidden",)
    expected = dict(zip(names, told[::2], strict=False))
    assert set(texts) == set(expected)
    for key, tensor in texts.items():
        assert tensor.dtype == torch.float32
        assert not tensor.requires_grad
        torch.testing.assert_close(tensor, expected[key], atol=1e-5, rtol=1e-5)
    assert texts["hidden"].shape == (4, 32, 80 if name == "sdxl" else found.pipe.unet.config.cross_attention_dim)


def test_those_of_the_xl_are_penultimate_states_and_the_second_encoders_pooled_text(
    pipelines: dict[str, Path],
) -> None:
    found = family(pipelines, "sdxl")
    pipe, texts = found.pipe, found.encode_texts(["large rings"])
    states = []
    for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
        tokens = tokenizer("large rings", padding="max_length", max_length=32, return_tensors="pt").input_ids
        with torch.no_grad():
            told = encoder(tokens, output_hidden_states=True)
        states.append(told.hidden_states[-2])
    torch.testing.assert_close(texts["hidden"], torch.cat(states, dim=-1))
    torch.testing.assert_close(texts["pooled"], told.text_embeds)


def last_hidden_state(pipe: Any, text: str) -> torch.Tensor:
    length = pipe.tokenizer.model_max_length
    tokens = pipe.tokenizer(text, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    hidden: torch.Tensor = pipe.text_encoder(tokens.input_ids).last_hidden_state
    return hidden


@pytest.mark.parametrize("name", ["sd15", "sd2"])
def test_those_of_sd_are_the_last_hidden_states(pipelines: dict[str, Path], name: str) -> None:
    found = family(pipelines, name)
    with torch.no_grad():
        expected = torch.cat([last_hidden_state(found.pipe, text) for text in TEXTS])
    assert torch.equal(found.encode_texts(TEXTS)["hidden"], expected)


@every_family
def test_a_text_does_not_depend_on_its_neighbours(pipelines: dict[str, Path], name: str) -> None:
    found = family(pipelines, name)
    alone, among = found.encode_texts(TEXTS[1:2]), found.encode_texts(TEXTS)
    assert all(torch.equal(alone[key], among[key][1:2]) for key in among)


@every_family
def test_pictures_become_what_the_pipeline_decodes(pipelines: dict[str, Path], name: str) -> None:
    found = family(pipelines, name)
    means, deviations = found.encode_pictures(pixels())
    assert means.shape == deviations.shape == (3, 4, 8, 8)
    assert means.dtype == deviations.dtype == torch.float32
    assert deviations.min() > 0
    vae = found.pipe.vae
    with torch.no_grad():
        told = vae.encode(pixels()).latent_dist
    torch.testing.assert_close(means / vae.config.scaling_factor, told.mean)
    torch.testing.assert_close(deviations / vae.config.scaling_factor, told.std)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_family
def test_pictures_are_encoded_in_float32(pipelines: dict[str, Path], name: str, dtype: torch.dtype) -> None:
    found = family(pipelines, name, dtype)
    before = {n: t.clone() for n, t in found.pipe.vae.state_dict().items()}
    means, _ = found.encode_pictures(pixels())
    assert all(torch.equal(t, before[n]) and t.dtype == dtype for n, t in found.pipe.vae.state_dict().items())
    with torch.no_grad():
        told = found.pipe.vae.float().encode(pixels()).latent_dist.mean
    torch.testing.assert_close(means, told * found.pipe.vae.config.scaling_factor)


def test_the_embedded_autoencoder_has_no_deviation() -> None:
    means, deviations = family_of(load(EMBEDDED_FOLDER / "pipeline")).encode_pictures(pixels())
    assert means.shape == (3, 8, 16, 16)
    assert torch.equal(deviations, torch.zeros_like(means))


def test_only_the_xl_is_told_sizes(pipelines: dict[str, Path]) -> None:
    assert family(pipelines, "sd15").time_ids(SIZES) is None
    ids = family(pipelines, "sdxl").time_ids(SIZES)
    assert ids is not None
    assert ids.dtype == torch.float32
    pipe = family(pipelines, "sdxl").pipe
    told = pipe._get_add_time_ids((200, 100), (8, 0), (64, 64), torch.float32, text_encoder_projection_dim=32)
    assert torch.equal(ids[1:], told)


class Told:
    """Keeps what the pipeline tells its UNet, and what that answers."""

    def __init__(self, unet: Any) -> None:
        self.calls: list[tuple[Any, dict[str, Any], Tensor]] = []
        unet.register_forward_hook(self._keep, with_kwargs=True)

    def _keep(self, unet: Any, places: Any, names: dict[str, Any], answer: Any) -> None:
        self.calls.append((places, names, answer[0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_family
def test_a_prediction_is_that_of_the_pipeline(pipelines: dict[str, Path], name: str, dtype: torch.dtype) -> None:
    found = family(pipelines, name, dtype)
    told = Told(found.pipe.unet)
    latents, _ = noisy()
    found.pipe(TEXTS[:2], num_inference_steps=1, guidance_scale=1, latents=latents.to(dtype))
    places, _, answer = told.calls[0]
    sizes = SIZES[:1].repeat(2, 1)
    with torch.no_grad():
        predicted = found.denoise(places[0], places[1].repeat(2), found.encode_texts(TEXTS[:2]), sizes)
    torch.testing.assert_close(predicted, answer, atol=1e-4 if dtype == torch.float32 else 0.05, rtol=0.01)


def predicted(found: Family, texts: Texts, sizes: Tensor) -> Tensor:
    with torch.no_grad():
        return found.denoise(*noisy(), texts, sizes)


def test_the_xl_sees_sizes_pooled_text_and_hidden_states(pipelines: dict[str, Path]) -> None:
    found = family(pipelines, "sdxl")
    texts = found.encode_texts(TEXTS[:2])
    first = predicted(found, texts, SIZES)
    assert not torch.allclose(predicted(found, texts, SIZES.flip(0)), first)
    for key in texts:
        assert not torch.allclose(predicted(found, texts | {key: texts[key].flip(0)}, SIZES), first)


def ids(found: Family) -> tuple[str, str]:
    return found.vae_id, found.text_id


@every_family
def test_encoders_are_named_by_content(pipelines: dict[str, Path], name: str) -> None:
    found, again = family(pipelines, name), family(pipelines, name)
    names = ids(found)
    assert all(len(told) == 16 and int(told, 16) for told in names)
    assert names == ids(again)
    with torch.no_grad():
        next(again.pipe.vae.parameters()).view(-1)[0] += 1
    assert ids(family_of(again.pipe))[0] != names[0]
    assert ids(family_of(again.pipe))[1] == names[1]
    encoder = again.pipe.text_encoder_2 if name == "sdxl" else again.pipe.text_encoder
    with torch.no_grad():
        next(encoder.parameters()).view(-1)[0] += 1
    assert ids(family_of(again.pipe))[1] != names[1]


def test_scale_precision_and_words_are_part_of_the_name(pipelines: dict[str, Path]) -> None:
    found, half = family(pipelines, "sd15"), family(pipelines, "sd15", torch.bfloat16)
    names = ids(found)
    assert half.vae_id != names[0]
    assert half.text_id != names[1]
    found.pipe.vae.register_to_config(scaling_factor=0.5)
    found.pipe.tokenizer.add_tokens(["adire_style"])
    changed = ids(family_of(found.pipe))
    assert changed[0] != names[0]
    assert changed[1] != names[1]
    assert len({family(pipelines, name).text_id for name in FAMILIES}) == 3


@every_family
def test_a_saved_adapter_keeps_its_alpha(pipelines: dict[str, Path], name: str, tmp_path: Path) -> None:
    found = family(pipelines, name)
    found.pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=6, target_modules=["to_q", "to_v"]))
    found.save(tmp_path)
    (file,) = tmp_path.iterdir()
    with safe_open(file, "pt") as saved:
        assert '"unet.lora_alpha": 6' in saved.metadata()["lora_adapter_metadata"]
        assert len(saved.keys()) == len(get_peft_model_state_dict(found.pipe.unet))
    again = family(pipelines, name)
    again.pipe.load_lora_weights(str(tmp_path), adapter_name="default")
    scales = {s for m in again.pipe.unet.modules() if hasattr(m, "scaling") for s in m.scaling.values()}
    assert scales == {3.0}
    loaded, expected = get_peft_model_state_dict(again.pipe.unet), get_peft_model_state_dict(found.pipe.unet)
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[n], tensor) for n, tensor in expected.items())


@pytest.mark.parametrize(("name", "preset"), [("sd15", "founding"), ("sd15", "fast-gpu"), ("sdxl", "sdxl")])
def test_a_preset_adapts_all_attention_of_its_family(pipelines: dict[str, Path], name: str, preset: str) -> None:
    unet = family(pipelines, name).pipe.unet
    parameters = add_lora(unet, load_preset(preset).train)
    layers = [n for n, module in unet.named_modules() if n.endswith((".attn1", ".attn2"))]
    assert layers
    assert len(parameters) == len(layers) * 4 * 2
