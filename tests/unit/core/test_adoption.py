"""A LoRA that was made elsewhere becomes generation 1; what is none, or may run code, does not."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tasks.core.adoption import adopt
from tasks.core.errors import AdoptionRefused
from tasks.core.promotion import promote
from tasks.core.publishing.run import publish
from tasks.core.registry.ledger import history
from tasks.core.registry.releases import WEIGHTS, fetch_release
from tasks.core.requests import AdoptRequest, PromoteRequest, PublishRequest
from tasks.core.settings import Settings
from tasks.core.store import FolderStore
from tests.candidates import evaluated

HALF = np.zeros((4, 8), np.float32)
DIFFUSERS = save({"unet.to_q.lora_A.weight": HALF, "unet.to_q.lora_B.weight": HALF.T.copy()})
KOHYA = save(
    {
        "lora_unet_to_q.lora_down.weight": HALF,
        "lora_unet_to_q.lora_up.weight": HALF.T.copy(),
        "lora_unet_to_q.alpha": np.array(4, np.float32),
    }
)
OLD = save(
    {
        "unet.to_q_lora.down.weight": HALF,
        "unet.to_q_lora.up.weight": HALF.T.copy(),
    }
)
REQUEST = AdoptRequest(source="adopted/adire", actor="ada", reason="trained by hand")


@pytest.mark.parametrize("weights", [DIFFUSERS, KOHYA, OLD], ids=["diffusers", "kohya", "old diffusers"])
@pytest.mark.parametrize("name", [WEIGHTS, "my lora.safetensors"])
def test_it_is_generation_1(folder: FolderStore, settings: Settings, tmp_path: Path, weights: bytes, name: str) -> None:
    folder.write(f"adopted/adire/{name}", weights)
    folder.write("adopted/adire/README.md", b"# mine")
    entry = adopt(folder, settings, REQUEST)
    assert history(folder, settings.model) == [entry]
    assert (entry.generation, entry.action, entry.actor, entry.reason) == (1, "adopt", "ada", "trained by hand")
    manifest = fetch_release(folder, settings.model, entry.release, tmp_path / "fetched")
    assert (tmp_path / "fetched" / WEIGHTS).read_bytes() == weights
    assert (manifest.training, manifest.base_model[:9]) == ("", "embedded-")
    assert publish(folder, settings, PublishRequest()).release == entry.release
    request = PromoteRequest(evaluation=evaluated(folder, "b", 1))
    assert promote(folder, settings, request).generation == 2


def test_cut_off_after_its_entry_it_is_found_again(folder: FolderStore, settings: Settings) -> None:
    folder.write(f"adopted/adire/{WEIGHTS}", DIFFUSERS)
    assert adopt(folder, settings, REQUEST) == adopt(folder, settings, REQUEST)
    assert len(history(folder, settings.model)) == 1


def test_of_several_files_that_with_the_usual_name_counts(
    folder: FolderStore, settings: Settings, tmp_path: Path
) -> None:
    folder.write(f"adopted/adire/{WEIGHTS}", DIFFUSERS)
    folder.write("adopted/adire/kohya.safetensors", KOHYA)
    entry = adopt(folder, settings, REQUEST)
    assert set(fetch_release(folder, settings.model, entry.release, tmp_path / "fetched").files) == {
        WEIGHTS,
        "README.md",
    }


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
}


@pytest.mark.parametrize(("files", "said"), BAD.values(), ids=BAD.keys())
def test_what_is_no_lora_is_refused(
    folder: FolderStore, settings: Settings, files: dict[str, bytes], said: str
) -> None:
    for name, data in files.items():
        folder.write(f"adopted/adire/{name}", data)
    with pytest.raises(AdoptionRefused, match=said):
        adopt(folder, settings, REQUEST)
    assert not list(folder.list("models/"))


@pytest.mark.parametrize("source", ["", "../elsewhere", "/etc"])
def test_a_source_is_a_folder_of_the_store(folder: FolderStore, settings: Settings, source: str) -> None:
    with pytest.raises(AdoptionRefused, match=r"spec\.source"):
        adopt(folder, settings, AdoptRequest(source=source))


def test_with_generations_there_is_nothing_to_adopt(folder: FolderStore, settings: Settings) -> None:
    promote(folder, settings, PromoteRequest(evaluation=evaluated(folder, "a", 0)))
    folder.write(f"adopted/adire/{WEIGHTS}", DIFFUSERS)
    with pytest.raises(AdoptionRefused, match="adopt it as another model"):
        adopt(folder, settings, REQUEST)
    assert len(history(folder, settings.model)) == 1
