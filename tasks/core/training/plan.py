"""What a training depends on, and the key that follows from it."""

from tasks.core.config.installation import Settings
from tasks.core.config.presets import load_preset
from tasks.core.config.requests import TrainRequest
from tasks.core.config.training import TrainSpec
from tasks.core.data.dataset import load_manifest
from tasks.core.data.split import split
from tasks.core.models.identity import base_fingerprint
from tasks.core.store import Store
from tasks.core.store.documents import Document, digest

VERSION = "4"  # raise it when the same plan trains another model


class TrainPlan(Document):
    """A training with everything it depends on; `key` is the hash of that."""

    key: str
    dataset: str
    version: str
    demand: tuple[str, ...]
    spec: TrainSpec
    base: str
    split: str = ""  # names what is trained on and what is held out
    held: int | None = None  # pictures that are held out; None: not recorded


def plan_training(store: Store, settings: Settings, request: TrainRequest) -> TrainPlan:
    """Resolve what is left open; raises DatasetUnusable when there is no version, or no picture, to train on.

    What is held out is recorded here, before any training has begun.
    """
    manifest = load_manifest(store, request.dataset or settings.dataset, request.version)
    spec = request.train or load_preset().train
    base, parts = request.base or base_fingerprint(settings), split(store, manifest)
    key = digest(manifest.version, parts.digest, spec.identity(), base, VERSION, *request.demand)
    return TrainPlan(
        key=key,
        dataset=manifest.dataset,
        version=manifest.version,
        demand=request.demand,
        spec=spec,
        base=base,
        split=parts.digest,
        held=len(parts.held),
    )
