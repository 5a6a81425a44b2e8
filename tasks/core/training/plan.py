"""The plan of a training: everything it depends on, and its key."""

from tasks.core.config.base import require_known
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import TrainRequest
from tasks.core.config.training import TrainSpec
from tasks.core.data.dataset import load_manifest
from tasks.core.data.pins import pinned_version
from tasks.core.data.split import split
from tasks.core.errors import DatasetUnusable, PlanMismatch
from tasks.core.installation import Installation
from tasks.core.models.identity import base_fingerprint
from tasks.core.store.documents import Document, digest

VERSION = "4"  # raise it when the same plan gives another LoRA


class TrainPlan(Document):
    """A training with everything it depends on; `key` is the hash of that."""

    key: str
    model: str
    dataset: str
    version: str
    demand: tuple[str, ...]
    spec: TrainSpec
    base: str
    split: str = ""  # digest of what is trained on and what is held out
    held: int | None = None  # pictures that are held out; None: not recorded


def plan_training(installation: Installation, model: ModelConfig, request: TrainRequest) -> TrainPlan:
    """Resolve the defaults of a request. The held-out pictures are recorded here, before any training starts.

    Raises:
        DatasetUnusable: the model does not subscribe to the dataset, or it has no such version or no picture.
        SettingError: the model's specification is of a later version, which knows more choices.
        PlanMismatch: the parent planned another training.
    """
    dataset = request.dataset or model.dataset
    if dataset not in model.datasets:
        raise DatasetUnusable(dataset, f"model {model.name!r} subscribes to {', '.join(model.datasets)} alone")
    version = request.version or pinned_version(installation.store, model.name, dataset)
    manifest = load_manifest(installation.store, dataset, version)
    spec = request.train or model.preset.train
    require_known(spec, "train")
    base, parts = request.base or base_fingerprint(model.base), split(installation.store, manifest)
    key = digest(manifest.version, parts.digest, spec.identity(), base, VERSION, *request.demand)
    if request.key not in {"", key}:
        inputs = f"dataset version {manifest.version}, split {parts.digest}, base {base}, trainer version {VERSION}"
        raise PlanMismatch("train-lora", request.key, key, inputs)
    return TrainPlan(
        key=key,
        model=model.name,
        dataset=manifest.dataset,
        version=manifest.version,
        demand=request.demand,
        spec=spec,
        base=base,
        split=parts.digest,
        held=len(parts.held),
    )
