"""Every family is loaded and drawn with, bare and with an adapter in either format."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import DDIMScheduler
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors import safe_open

from tasks.core.config.training import TrainSpec
from tasks.core.errors import ModelUnusable
from tasks.core.models.families import Family, family_of
from tasks.core.models.kohya import KOHYA, save_kohya
from tasks.core.models.pipeline import load_pipeline
from tasks.core.models.rendering import Renderer
from tests.adire import adire
from tests.pipelines import FAMILIES

every_family = pytest.mark.parametrize("name", FAMILIES)
PROMPTS, SEEDS = ["large rings", "small dots"], [1, 2]
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "net.0.proj", "net.2", "conv1", "conv2", "conv"]
SPEC = TrainSpec(resolution=64, rank=4, alpha=6)


def numbers(pictures: list[Image.Image]) -> npt.NDArray[np.int64]:
    return np.stack([np.asarray(picture).astype(np.int64) for picture in pictures])


def drawn(renderer: Renderer) -> npt.NDArray[np.int64]:
    return numbers(renderer.render(PROMPTS, SEEDS, 3, 4.0)[0])


def with_adapter(folder: Path) -> Family:
    """A pipeline whose UNet has a LoRA with random weights, which shows."""
    family = family_of(load_pipeline(str(folder), "cpu"))
    config = LoraConfig(r=SPEC.rank, lora_alpha=SPEC.alpha, target_modules=[*TARGETS, "time_emb_proj"])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        family.pipe.unet.add_adapter(config)
        for parameter in family.pipe.unet.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
    return family


def drawn_in_place(family: Family) -> npt.NDArray[np.int64]:
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in SEEDS]
    with torch.inference_mode():
        made = family.pipe(PROMPTS, num_inference_steps=3, guidance_scale=4.0, generator=generators)
    return numbers(made.images)


@every_family
def test_an_adapter_draws_the_same_when_loaded_from_either_file(
    pipelines: dict[str, Path], name: str, tmp_path: Path
) -> None:
    family = with_adapter(pipelines[name])
    family.save(tmp_path)
    save_kohya(family, SPEC, tmp_path)
    renderer = Renderer(str(pipelines[name]), "cpu")
    bare = drawn(renderer)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # peft only warns of target modules that it does not find
        renderer.load(tmp_path, "ours")
        renderer.pipe.load_lora_weights(str(tmp_path), weight_name=KOHYA, adapter_name="kohya")
    renderer.activate("")
    assert np.array_equal(drawn(renderer), bare), "loading alone changes nothing"
    expected, saved = drawn_in_place(family), get_peft_model_state_dict(family.pipe.unet)
    assert np.abs(expected - bare).mean() > 1, "the LoRA shows"
    for adapter in ("ours", "kohya"):
        renderer.activate(adapter)
        assert np.allclose(drawn(renderer), expected, atol=1), adapter
        loaded = get_peft_model_state_dict(renderer.pipe.unet, adapter_name=adapter)
        assert set(loaded) == set(saved)
        assert all(torch.equal(loaded[part], tensor) for part, tensor in saved.items())
    scales = {scale for m in renderer.pipe.unet.modules() for scale in getattr(m, "scaling", {}).values()}
    assert scales == {SPEC.alpha / SPEC.rank}
    renderer.activate("")
    assert np.array_equal(drawn(renderer), bare)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sd15", ("stable-diffusion-v1/lora", "epsilon", "sd_v1", "False")),
        ("sd2", ("stable-diffusion-v2/lora", "v", "sd_v2", "True")),
        ("sdxl", ("stable-diffusion-xl-v1-base/lora", "epsilon", "sdxl_base_v1-0", "False")),
    ],
)
def test_the_file_for_other_programs_tells_what_it_goes_with(
    pipelines: dict[str, Path], name: str, told: tuple[str, ...], tmp_path: Path
) -> None:
    save_kohya(with_adapter(pipelines[name]), SPEC, tmp_path)
    with safe_open(tmp_path / KOHYA, "pt") as file:
        found = file.metadata()
    keys = ("modelspec.architecture", "modelspec.prediction_type", "ss_base_model_version", "ss_v2")
    assert tuple(found[key] for key in keys) == told


@every_family
def test_a_pipeline_draws_by_ddim_and_predicts_what_it_was_trained_to(pipelines: dict[str, Path], name: str) -> None:
    pipe = load_pipeline(str(pipelines[name]), "cpu")
    assert isinstance(pipe.scheduler, DDIMScheduler)
    assert pipe.scheduler.config.prediction_type == ("v_prediction" if name == "sd2" else "epsilon")
    assert (pipe.scheduler.config.beta_end, pipe.scheduler.config.clip_sample) == (0.012, False)
    assert {part.dtype for part in pipe.components.values() if isinstance(part, torch.nn.Module)} == {torch.float32}
    if name == "sdxl":
        assert pipe.watermark is None
    else:
        assert pipe.safety_checker is None


@every_family
def test_a_pipeline_is_loaded_in_the_precision_that_is_asked_for(pipelines: dict[str, Path], name: str) -> None:
    pipe = load_pipeline(str(pipelines[name]), "cpu", torch.bfloat16)
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    assert {parameter.dtype for part in parts for parameter in part.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("kind", ["StableDiffusion3Pipeline", ["pipeline.py", "MyPipeline"]])
def test_another_pipeline_is_not_loaded(pipelines: dict[str, Path], kind: object, tmp_path: Path) -> None:
    shutil.copytree(pipelines["sd15"], tmp_path / "base")
    index = tmp_path / "base" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": kind}))
    with pytest.raises(ModelUnusable, match="not a StableDiffusionPipeline or a StableDiffusionXLPipeline; check the"):
        load_pipeline(str(tmp_path / "base"), "cpu")


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"cannot be loaded: .*model_index\.json.*; check the model's base"):
        load_pipeline(str(tmp_path), "cpu")


def test_an_adapter_of_another_family_is_no_lora_for_this_base(pipelines: dict[str, Path], tmp_path: Path) -> None:
    with_adapter(pipelines["sdxl"]).save(tmp_path)
    renderer = Renderer(str(pipelines["sd15"]), "cpu")
    bare = drawn(renderer)
    with pytest.raises(ModelUnusable, match=r"'other': is no LoRA for this base: it adapts 'unet\.down_blocks\.1"):
        renderer.load(tmp_path, "other")
    assert np.array_equal(drawn(renderer), bare)


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "not a number"), (0.0, "of one colour")])
def test_what_shows_nothing_is_told(pipelines: dict[str, Path], value: float, said: str) -> None:
    renderer, model = Renderer(str(pipelines["sd15"]), "cpu"), adire()
    renderer.try_out(model)
    with torch.no_grad():
        renderer.pipe.vae.decoder.conv_out.weight.fill_(value)
    with pytest.raises(ModelUnusable, match=f"model 'base': renders a picture that is {said}"):
        renderer.try_out(model)
