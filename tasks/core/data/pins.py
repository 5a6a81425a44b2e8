"""Pins: trainings of a model stay at a dataset version, whatever is uploaded meanwhile."""

from collections.abc import Iterator
from datetime import datetime
from uuid import uuid4

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.data.dataset import load_manifest, newest_version
from tasks.core.errors import DatasetUnusable, ObjectMissing
from tasks.core.store import Store
from tasks.core.store.documents import Document, parse, read_document, render


class DatasetPin(Document):
    """A person's choice of the version that a model is trained on where a request names none."""

    dataset: str
    version: str  # empty: it was unpinned
    actor: str
    reason: str
    time: datetime
    writer: str  # no two documents are the same


def _key(model: str, dataset: str) -> str:
    return f"models/{model}/pins/{dataset}.json"


def read_dataset_pin(store: Store, model: str, dataset: str) -> DatasetPin | None:
    """The pin in force."""
    try:
        pin = read_document(store, DatasetPin, _key(model, dataset))
    except ObjectMissing:
        return None
    return pin if pin.version else None


def dataset_pins(store: Store, model: str) -> Iterator[DatasetPin]:
    """All pins in force of a model, also of datasets that it does not subscribe to any more."""
    for key in store.list(f"models/{model}/pins/"):
        if pin := read_dataset_pin(store, model, key.rpartition("/")[2].removesuffix(".json")):
            yield pin


def pinned_version(store: Store, model: str, dataset: str) -> str:
    """The version that trainings stay at; empty: none, they take the newest."""
    pin = read_dataset_pin(store, model, dataset)
    return pin.version if pin else ""


def training_version(store: Store, model: str, dataset: str) -> str:
    """The version that is trained on where a request names none; empty before there is one."""
    return pinned_version(store, model, dataset) or newest_version(store, dataset)


def pin_dataset(store: Store, model: ModelConfig, dataset: str, version: str, actor: str, reason: str) -> DatasetPin:
    """Let trainings of a model stay at a version.

    Raises:
        DatasetUnusable: the model does not subscribe to the dataset, or there is no such version.
        StoreConflict: another one has pinned or unpinned it meanwhile.
    """
    if dataset not in model.datasets:
        raise DatasetUnusable(dataset, f"model {model.name!r} subscribes to {', '.join(model.datasets)} alone")
    load_manifest(store, dataset, version)
    return _swap(store, model.name, dataset, version, actor, reason)


def unpin_dataset(store: Store, model: str, dataset: str, actor: str, reason: str) -> DatasetPin:
    """Let trainings of a model take the newest version again; raises StoreConflict."""
    return _swap(store, model, dataset, "", actor, reason)


def _swap(store: Store, model: str, dataset: str, version: str, actor: str, reason: str) -> DatasetPin:
    key, tag = _key(model, dataset), None
    try:
        data, tag = store.read_versioned(key)
        parse(DatasetPin, data, key)
    except ObjectMissing:
        pass
    pin = DatasetPin(dataset=dataset, version=version, actor=actor, reason=reason, time=clock.now(), writer=uuid4().hex)
    store.swap(key, render(pin), tag)
    return pin
