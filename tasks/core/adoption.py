"""A LoRA that was made elsewhere becomes generation 1."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open

from tasks.core import clock
from tasks.core.data.dataset import newest_version
from tasks.core.documents import digest
from tasks.core.errors import AdoptionRefused, BadKey
from tasks.core.models import base_fingerprint
from tasks.core.publishing.card import facts_of, write_card
from tasks.core.registry import ledger
from tasks.core.registry.releases import WEIGHTS, ReleaseManifest, describe, put_release
from tasks.core.requests import AdoptRequest
from tasks.core.settings import Settings
from tasks.core.store import Store
from tasks.core.store.probe import require_conditions

PICKLES = {".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth"}
HALVES = re.compile(r"[._]lora(?:_[AB]|[._](?:linear_layer\.)?(?:down|up))\.(?:\w+\.)?weight$")
EXTRAS = re.compile(r"\.(?:alpha|dora_scale|lora_magnitude_vector(?:\.\w+)*)$")


def adopt(store: Store, settings: Settings, request: AdoptRequest) -> ledger.Entry:
    """Write the LoRA as a release, then the first entry of the ledger; repeatable.

    Raises:
        AdoptionRefused: there are generations already, or the folder holds no LoRA in safetensors.
        PromotionLost: a promotion took the generation in between.
    """
    require_conditions(store)
    entries = ledger.history(store, settings.model)
    with _brought(store, request.source) as folder:
        about = _about(settings)
        write_card(folder, facts_of(settings, about))
        manifest = describe(folder, about)
        if entries and entries[0].release == digest(manifest):
            return entries[0]
        if entries:
            raise AdoptionRefused(
                request.source, f"model {settings.model!r} has generations; adopt it as another model"
            )
        put_release(store, settings.model, manifest, lambda name: folder / name)
    entry = ledger.Entry(
        generation=1,
        action="adopt",
        release=digest(manifest),
        dataset_version=newest_version(store, settings.dataset),
        actor=request.actor,
        reason=request.reason,
        time=clock.now(),
    )
    ledger.append(store, settings.model, entry)
    return entry


def _about(settings: Settings) -> ReleaseManifest:
    """What can be said of a LoRA that was trained elsewhere."""
    return ReleaseManifest(
        base_model=base_fingerprint(settings),
        dataset="",
        dataset_version="",
        training="",
        trigger=settings.trigger,
        files={},
    )


@contextmanager
def _brought(store: Store, source: str) -> Iterator[Path]:
    """A folder with the weights of the source, looked through, under the name that releases use."""
    name = _weights(source, _names(store, source))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / WEIGHTS
        store.get_file(f"{source.rstrip('/')}/{name}", path)
        if problem := lora_fault(path):
            raise AdoptionRefused(source, f"{name} {problem}")
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
    """Which of the files holds the weights."""
    if pickles := [name for name in names if PurePosixPath(name).suffix.lower() in PICKLES]:
        raise AdoptionRefused(source, f"{pickles[0]} may be a pickle, which can run code; convert it to safetensors")
    found = [name for name in names if name.endswith(".safetensors")]
    if WEIGHTS not in found and len(found) != 1:
        told = f"{len(found)} safetensors files" if found else "no safetensors file"
        raise AdoptionRefused(source, f"it holds {told}; leave one, or name one {WEIGHTS}")
    return WEIGHTS if WEIGHTS in found else found[0]


def lora_fault(path: Path) -> str:
    """Why a file is no LoRA, by its header alone; empty when it is one."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        return f"is no safetensors file ({error})"
    halves = [name for name in names if HALVES.search(name)]
    other = [name for name in names if not HALVES.search(name) and not EXTRAS.search(name)]
    if other or not halves:
        return f"holds {other[0]!r}, which is no tensor of a LoRA" if other else "holds no tensors of a LoRA"
    return "" if len(halves) % 2 == 0 else "lacks the other half of a LoRA's pair"
