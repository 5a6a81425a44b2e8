"""Adoption of a LoRA as generation 1; files that are none, or may run code, are rejected."""

import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import AdoptRequest, PromoteRequest, PublishRequest
from tasks.core.errors import AdoptionRefused, ModelUnusable
from tasks.core.lifecycle.adopt import adopt
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.models.identity import WEIGHTS
from tasks.core.models.rendering import Renderer
from tasks.core.registry.ledger import history
from tasks.core.registry.releases import fetch_release
from tasks.core.store import FolderStore
from tests.adire import adire, installed
from tests.candidates import evaluated

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"  # of the embedded base
FLAT = f"lora_unet_{BLOCK.replace('.', '_')}_to_q"
HALF = np.full((4, 64), 0.01, np.float32)
OTHER = HALF.T.copy()
DIFFUSERS = save({f"unet.{BLOCK}.to_q.lora_A.weight": HALF, f"unet.{BLOCK}.to_q.lora_B.weight": OTHER})
KOHYA = save(
    {f"{FLAT}.lora_down.weight": HALF, f"{FLAT}.lora_up.weight": OTHER, f"{FLAT}.alpha": np.array(4, np.float32)}
)
OLD = save(
    {f"unet.{BLOCK}.processor.to_q_lora.down.weight": HALF, f"unet.{BLOCK}.processor.to_q_lora.up.weight": OTHER}
)
PEFT = save(
    {
        f"base_model.model.{BLOCK}.to_q.lora_A.weight": HALF,
        f"base_model.model.{BLOCK}.to_q.lora_B.weight": OTHER,
    }
)


def kohya(alpha: float = 4, name: str = FLAT, down: npt.NDArray[np.float32] = HALF) -> bytes:
    """A LoRA file, valid unless an argument is not."""
    tensors = {"lora_down.weight": down, "lora_up.weight": OTHER, "alpha": np.array(alpha, np.float32)}
    return save({f"{name}.{part}": tensor for part, tensor in tensors.items()})


REQUEST = AdoptRequest(source="adopted/adire", actor="ada", reason="trained by hand")


@pytest.mark.parametrize("weights", [DIFFUSERS, KOHYA, OLD], ids=["diffusers", "kohya", "old diffusers"])
@pytest.mark.parametrize("name", [WEIGHTS, "my lora.safetensors"])
def test_adoption_is_generation_1(
    folder: FolderStore, model: ModelConfig, tmp_path: Path, weights: bytes, name: str
) -> None:
    folder.write(f"adopted/adire/{name}", weights)
    folder.write("adopted/adire/README.md", b"# mine")
    entry = adopt(installed(folder), model, REQUEST)
    assert history(folder, model.name) == [entry]
    assert (entry.generation, entry.action, entry.actor, entry.reason) == (1, "adopt", "ada", "trained by hand")
    manifest = fetch_release(folder, model.name, entry.release, tmp_path / "fetched")
    assert (tmp_path / "fetched" / WEIGHTS).read_bytes() == weights
    assert (manifest.training, manifest.base_model[:9]) == ("", "embedded-")
    assert publish(installed(folder), model, PublishRequest()).release == entry.release
    request = PromoteRequest(evaluation=evaluated(folder, "b", 1))
    assert promote(installed(folder), model, request).generation == 2


def test_an_adoption_interrupted_after_its_entry_is_repeatable(folder: FolderStore, model: ModelConfig) -> None:
    folder.write(f"adopted/adire/{WEIGHTS}", DIFFUSERS)
    assert adopt(installed(folder), model, REQUEST) == adopt(installed(folder), model, REQUEST)
    assert len(history(folder, model.name)) == 1


def test_of_several_files_the_one_with_the_usual_name_is_used(
    folder: FolderStore, model: ModelConfig, tmp_path: Path
) -> None:
    folder.write(f"adopted/adire/{WEIGHTS}", DIFFUSERS)
    folder.write("adopted/adire/kohya.safetensors", KOHYA)
    entry = adopt(installed(folder), model, REQUEST)
    assert set(fetch_release(folder, model.name, entry.release, tmp_path / "fetched").files) == {
        WEIGHTS,
        "README.md",
    }


def test_a_folder_of_peft_is_adopted_with_its_alpha(folder: FolderStore, model: ModelConfig, tmp_path: Path) -> None:
    folder.write("adopted/adire/adapter_model.safetensors", PEFT)
    folder.write("adopted/adire/adapter_config.json", b'{"lora_alpha": 2}')
    entry = adopt(installed(folder), model, REQUEST)
    fetch_release(folder, model.name, entry.release, tmp_path)
    renderer = Renderer(model.base)
    renderer.load(tmp_path, "it")
    layer = renderer.pipe.unet.get_submodule(f"{BLOCK}.to_q")
    assert layer.scaling == {"it": 0.5}


def test_a_lora_of_another_base_is_rejected_with_both_named(
    folder: FolderStore, model: ModelConfig, pipelines: dict[str, Path]
) -> None:
    local = adire(base=str(pipelines["sd15"]))
    xl = kohya(name="lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", down=np.ones((4, 2048), np.float32))
    folder.write(f"adopted/adire/{WEIGHTS}", xl)
    with pytest.raises(AdoptionRefused, match="for stable-diffusion-xl-v1-base, the base is stable-diffusion-v1; noth"):
        adopt(installed(folder, device="cpu"), local, REQUEST)
    assert not list(folder.list("models/"))


def test_a_base_that_cannot_be_loaded_is_reported_as_such(
    folder: FolderStore, model: ModelConfig, tmp_path: Path
) -> None:
    folder.write(f"adopted/adire/{WEIGHTS}", DIFFUSERS)
    (tmp_path / "none").mkdir()
    with pytest.raises(ModelUnusable, match="check the model's base"):
        adopt(installed(folder), adire(base=str(tmp_path / "none")), REQUEST)
    assert not list(folder.list("models/"))


BAD = {
    "no folder": ({}, "names no folder with files"),
    "a pickle": ({"lora.bin": pickle.dumps({})}, "may be a pickle"),
    "a pickle beside it": ({WEIGHTS: DIFFUSERS, "lora.ckpt": b""}, "lora.ckpt may be a pickle"),
    "no weights": ({"README.md": b"# mine"}, "no safetensors file"),
    "two of them": ({"a.safetensors": DIFFUSERS, "b.safetensors": KOHYA}, "2 safetensors files"),
    "no safetensors": ({WEIGHTS: b"not a header"}, "is no safetensors file"),
    "cut off": ({WEIGHTS: DIFFUSERS[:-7]}, "is no safetensors file"),
    "a whole model": ({WEIGHTS: save({"unet.to_q.weight": HALF})}, "'unet.to_q.weight', which is no tensor of a LoRA"),
    "empty": ({WEIGHTS: save({})}, "holds no tensors of a LoRA"),
    "one half": ({WEIGHTS: save({"unet.to_q.lora_A.weight": HALF})}, "lacks the other half"),
    "NaN": ({WEIGHTS: kohya(down=HALF * np.float32("nan"))}, "that are no finite numbers"),
    "another shape": ({WEIGHTS: kohya(down=np.ones((4, 320), np.float32))}, r"does not fit unet\.down_blocks\.0.*320"),
    "another model": ({WEIGHTS: kohya(name=f"{FLAT}_2")}, r"attn1_to_q_2', which the base does not have"),
    "alpha inf": ({WEIGHTS: kohya(float("inf"))}, "an alpha of .* that is not one finite number"),
    "too strong": (
        {WEIGHTS: kohya(1e30)},
        r"adds up to .* to unet\.down_.*: its alpha or its values are wrong",
    ),
    "zeros": ({WEIGHTS: kohya(down=HALF * 0)}, "changes nothing: each of its products is zero"),
    "half of a PEFT folder": ({WEIGHTS: PEFT}, r"without its adapter_config\.json, which holds alpha"),
}


@pytest.mark.parametrize(("files", "message"), BAD.values(), ids=BAD.keys())
def test_files_that_are_no_lora_are_rejected(
    folder: FolderStore, model: ModelConfig, files: dict[str, bytes], message: str
) -> None:
    for name, data in files.items():
        folder.write(f"adopted/adire/{name}", data)
    with pytest.raises(AdoptionRefused, match=message):
        adopt(installed(folder), model, REQUEST)
    assert not list(folder.list("models/"))


@pytest.mark.parametrize("source", ["", "../elsewhere", "/etc"])
def test_a_source_is_a_folder_of_the_store(folder: FolderStore, model: ModelConfig, source: str) -> None:
    with pytest.raises(AdoptionRefused, match=r"spec\.source"):
        adopt(installed(folder), model, AdoptRequest(source=source))


def test_a_model_with_generations_adopts_nothing(folder: FolderStore, model: ModelConfig) -> None:
    promote(installed(folder), model, PromoteRequest(evaluation=evaluated(folder, "a", 0)))
    folder.write(f"adopted/adire/{WEIGHTS}", DIFFUSERS)
    with pytest.raises(AdoptionRefused, match="adopt it as another model"):
        adopt(installed(folder), model, REQUEST)
    assert len(history(folder, model.name)) == 1
