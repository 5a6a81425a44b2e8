"""A picture is forgotten: a canary in its bytes, its name and its caption is found nowhere afterwards."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from PIL import PngImagePlugin

from tasks.core.config.captioning import CaptioningSpec
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.config.requests import ForgetRequest, PromoteRequest, PublishRequest
from tasks.core.data.captioning import Captioner, read_made
from tasks.core.data.dataset import blobs, captions_key, load_manifest
from tasks.core.data.ingest import ingest
from tasks.core.data.split import split
from tasks.core.errors import ReleaseWithdrawn
from tasks.core.installation import Installation
from tasks.core.lifecycle.forget_picture import UploadUnknown, find_picture, forget_picture
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.registry.ledger import champion, history
from tasks.core.registry.models import apply_config
from tasks.core.registry.releases import verify_release
from tasks.core.registry.results import TrainResult, find_result
from tasks.core.store import FolderStore
from tests.adire import adire, installed
from tests.candidates import QUICK, measured, trained
from tests.odd_pictures import encoded, noise
from tests.vision_server import CaptionServer, tinted_file

CANARY = "ada-lovelace-7731"
SPEC = IngestSpec(instance_prompt="adire_style cloth")


@pytest.fixture
def shop(folder: FolderStore, tmp_path: Path) -> ModelConfig:
    """A model with two generations, the second of which has seen the canary."""
    model = apply_config(folder, adire()).config
    for number in range(3):
        folder.write(f"uploads/adire/{number}.png", encoded(noise(number)))
    generation(folder, model, "before")
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", CANARY)
    for name in (CANARY, "a copy"):
        folder.write(f"uploads/adire/{name}.png", encoded(noise(9), pnginfo=info))
    folder.write(f"uploads/adire/{CANARY}.txt", f"the cloth of {CANARY}".encode())
    generation(folder, model, "with")
    return model


def generation(store: FolderStore, model: ModelConfig, training: str) -> None:
    for path in (Path(unquote(urlsplit(store.url).path)) / "uploads").rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))  # so that the index remembers them
    manifest, _ = ingest(store, "adire", SPEC, model.trigger)
    split(store, manifest)
    trained(store, training, f"run-{training}", version=manifest.version, dataset="adire")
    evaluation = measured(store, training, len(history(store, model.name)))
    promote(installed(store), model, PromoteRequest(evaluation=evaluation, gate=QUICK))
    publish(installed(store), model, PublishRequest())


def found(folder: FolderStore, *others: Path) -> list[str]:
    """Where the canary is, of names and bytes."""
    keys = [key for key in folder.list("") if CANARY in key or CANARY.encode() in folder.read(key)]
    paths = [path for other in others for path in other.rglob("*") if path.is_file()]
    return [*keys, *(str(path) for path in paths if CANARY.encode() in path.read_bytes())]


def asked(**fields: object) -> ForgetRequest:
    return ForgetRequest.model_validate({"dataset": "adire", "picture": f"{CANARY}.png"} | fields)


def test_the_canary_is_found_nowhere(shop: ModelConfig, folder: FolderStore, installation: Installation) -> None:
    latents = installation.settings.cache / "latents"
    latents.mkdir(parents=True)
    (latents / "1.safetensors").write_bytes(CANARY.encode())
    held = find_picture(installation, asked())
    assert set(held.uploads) == {
        f"uploads/adire/{CANARY}.png",
        f"uploads/adire/{CANARY}.txt",
        "uploads/adire/a copy.png",
    }
    assert [(each.trainings, each.releases, each.runs) for each in held.trained] == [
        (("with",), (history(folder, "adire")[1].release,), ("run-with",))
    ]
    assert len(found(folder)) > 3
    assert "datasets/adire/index.json" in found(folder)
    forget_picture(installation, asked(), held)
    ingest(folder, "adire", SPEC, shop.trigger)
    assert found(folder, installation.settings.cache) == []
    assert not folder.exists(f"blobs/{held.sha256}")


def test_its_caption_by_a_model_is_deleted_too(folder: FolderStore, installation: Installation) -> None:
    vision = CaptionServer()
    vision.say = lambda colour: f"a {colour} cloth" + f" of {CANARY}" * (colour == "red")
    vision.start()
    for colour in ("red", "blue"):
        folder.write(f"uploads/adire/{colour}.png", tinted_file(colour))
    ingest(folder, "adire", SPEC, captioner=Captioner(CaptioningSpec(url=vision.url, model="llava")))
    vision.stop()
    assert captions_key("adire") in found(folder)
    request = asked(picture="red.png")
    held = find_picture(installation, request)
    for _ in range(2):
        forget_picture(installation, request, held)
        assert found(folder) == []
        assert [made.text for made in read_made(folder, "adire")[0].captions.values()] == ["a blue cloth"]


def test_the_others_stay(shop: ModelConfig, folder: FolderStore, installation: Installation) -> None:
    before = load_manifest(folder, "adire")
    forget_picture(installation, asked(), find_picture(installation, asked()))
    after = load_manifest(folder, "adire", before.version)
    assert len(after.items) == len(before.items) - 1
    assert after.forgotten == 1
    assert len([*blobs(folder, "adire", after.items)]) == 3
    assert split(folder, after).train
    entry = champion(folder, "adire")
    assert entry
    assert verify_release(folder, "adire", entry.release), "it is only withdrawn where that is asked for"


def test_what_was_trained_on_it_is_withdrawn_where_asked(
    shop: ModelConfig, folder: FolderStore, installation: Installation
) -> None:
    forget_picture(installation, asked(withdraw=True), find_picture(installation, asked()))
    first, second, third = history(folder, "adire")
    assert (third.action, third.release) == ("roll_back", first.release)
    with pytest.raises(ReleaseWithdrawn):
        verify_release(folder, "adire", second.release)
    assert find_result(folder, "adire", TrainResult, "with") is None
    assert not [*folder.list("models/adire/checkpoints/with/")]
    assert find_result(folder, "adire", TrainResult, "before")


def test_it_is_found_by_its_hash_and_after_its_upload_is_gone(
    shop: ModelConfig, folder: FolderStore, installation: Installation
) -> None:
    by_name = find_picture(installation, asked())
    assert find_picture(installation, asked(picture=by_name.sha256)) == by_name
    folder.delete(f"uploads/adire/{CANARY}.png")
    assert find_picture(installation, asked()).versions == by_name.versions


def test_it_can_be_run_again(shop: ModelConfig, folder: FolderStore, installation: Installation) -> None:
    held = find_picture(installation, asked())
    forget_picture(installation, asked(), held)
    forget_picture(installation, asked(), held)
    with pytest.raises(UploadUnknown, match="name a file under uploads/adire/"):
        find_picture(installation, asked())
