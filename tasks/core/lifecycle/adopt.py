"""Adoption of a LoRA that was trained elsewhere as generation 1."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import AdoptRequest
from tasks.core.data.dataset import newest_version
from tasks.core.errors import AdoptionRefused, BadKey, LoraUnusable, ModelUnusable
from tasks.core.installation import Installation
from tasks.core.models.identity import WEIGHTS, base_fingerprint
from tasks.core.publishing.card import write_card
from tasks.core.publishing.card_facts import facts_of
from tasks.core.registry import ledger
from tasks.core.registry.releases import ReleaseManifest, describe, release_manifest, write_release
from tasks.core.store import Store
from tasks.core.store.conditional_writes import require_conditions

PICKLES = {".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth"}
ADOPTED = "adopted"  # its adapter name in the test render
CONFIG = "adapter_config.json"  # of PEFT: holds alpha for weights in PEFT's format


def adopt(installation: Installation, model: ModelConfig, request: AdoptRequest) -> ledger.Entry:
    """Load the LoRA and render a test picture, write the release, then the ledger's first entry; idempotent.

    Raises:
        AdoptionRefused: there are generations already, or the folder holds no LoRA that renders with this base.
        ModelUnusable: the base model cannot be loaded.
        PromotionLost: a promotion took the generation meanwhile.
    """
    require_conditions(installation.store)
    entries = ledger.history(installation.store, model.name)
    with _local_copy(installation.store, request.source) as folder:
        about = _manifest_fields(model)
        write_card(folder, facts_of(model, about))
        if entries and _is_adopted(installation.store, model.name, entries[0], describe(folder, about)):
            return entries[0]
        if entries:
            raise AdoptionRefused(request.source, f"model {model.name!r} has generations; adopt it as another model")
        _require_renders(installation, model, request.source, folder)
        release = write_release(installation.store, model.name, folder, about)
    entry = ledger.Entry(
        generation=1,
        action="adopt",
        release=release,
        dataset=model.dataset,
        dataset_version=newest_version(installation.store, model.dataset),
        actor=request.actor,
        reason=request.reason,
        time=clock.now(),
    )
    return ledger.append(installation.store, model.name, entry)


def _is_adopted(store: Store, model: str, first: ledger.Entry, manifest: ReleaseManifest) -> bool:
    """Whether the first generation is this release, whatever version of the software has written it."""
    return first.action == "adopt" and release_manifest(store, model, first.release) == manifest


def _manifest_fields(model: ModelConfig) -> ReleaseManifest:
    """The known manifest fields of a LoRA that was trained elsewhere."""
    return ReleaseManifest(
        base_model=base_fingerprint(model.base),
        dataset="",
        dataset_version="",
        training="",
        trigger=model.trigger,
        files={},
    )


@contextmanager
def _local_copy(store: Store, source: str) -> Iterator[Path]:
    """A temporary folder with the weights of the source, under the file names of releases."""
    names = _names(store, source)
    files = {_weights(source, names): WEIGHTS} | ({CONFIG: CONFIG} if CONFIG in names else {})
    with tempfile.TemporaryDirectory() as place:
        for name, local in files.items():
            store.get_file(f"{source.rstrip('/')}/{name}", Path(place) / local)
        yield Path(place)


def _names(store: Store, source: str) -> list[str]:
    place = f"{source.rstrip('/')}/"
    try:
        names = [key.removeprefix(place) for key in store.list(place)] if source else []
    except BadKey as error:
        raise AdoptionRefused(source, "spec.source is a folder under the store, such as adopted/adire") from error
    if not names:
        raise AdoptionRefused(source, f"spec.source names no folder with files under {store.url}")
    return names


def _weights(source: str, names: list[str]) -> str:
    """The name of the file with the weights."""
    if pickles := [name for name in names if PurePosixPath(name).suffix.lower() in PICKLES]:
        raise AdoptionRefused(source, f"{pickles[0]} may be a pickle, which can run code; convert it to safetensors")
    found = [name for name in names if name.endswith(".safetensors")]
    if WEIGHTS not in found and len(found) != 1:
        count = f"{len(found)} safetensors files" if found else "no safetensors file"
        raise AdoptionRefused(source, f"it holds {count}; leave one, or name one {WEIGHTS}")
    return WEIGHTS if WEIGHTS in found else found[0]


def _require_renders(installation: Installation, model: ModelConfig, source: str, folder: Path) -> None:
    """Raise AdoptionRefused unless all of the LoRA loads into the base, and it renders."""
    from tasks.core.models.lora_file import read_lora  # noqa: PLC0415  lazy: other flows do not import torch
    from tasks.core.models.rendering import Renderer  # noqa: PLC0415

    renderer = Renderer(model.base, installation.settings.device)
    try:
        if not read_lora(folder / WEIGHTS).changes:
            raise AdoptionRefused(source, "the LoRA changes nothing: each of its products is zero")
        renderer.load(folder, ADOPTED)
        renderer.activate(ADOPTED)
        renderer.try_out(model)
    except (LoraUnusable, ModelUnusable) as error:
        raise AdoptionRefused(source, f"the LoRA {error.problem}") from error
