"""A picture is forgotten on request: uploads, captions, blob, and its entries in every version of every dataset.

What was trained on it is listed, and withdrawn by choice. It may be killed and run again: the versions, in which the
picture is found, are the last to lose it.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath

from tasks.core.config.requests import ForgetRequest, WithdrawRequest
from tasks.core.data.captioning import forget_made
from tasks.core.data.dataset import Manifest, forget_item, index_key, load_manifest, manifest_key
from tasks.core.data.failures import failure_key
from tasks.core.data.file_kinds import TEXTS
from tasks.core.data.split import forget_side
from tasks.core.errors import DyeworksError, ObjectMissing
from tasks.core.installation import Installation
from tasks.core.lifecycle.withdraw import withdraw
from tasks.core.registry.ledger import history
from tasks.core.registry.results import TrainResult, checkpoint_folder, result_folder
from tasks.core.store import Store, delete_prefix
from tasks.core.store.documents import Document, read_documents


class UploadUnknown(DyeworksError):
    """A picture is neither among the uploads nor in any version of a dataset."""

    def __init__(self, dataset: str, picture: str) -> None:
        super().__init__(
            f"dataset {dataset!r} has no picture {picture!r}: name a file under uploads/{dataset}/, or give its sha256"
        )
        self.dataset, self.picture = dataset, picture


class TrainedOn(Document):
    """What a model has learned from a picture."""

    model: str
    trainings: tuple[str, ...]
    releases: tuple[str, ...]
    runs: tuple[str, ...]  # of MLflow, whose artifacts hold the adapters too


class PictureHolders(Document):
    """Everything in the store that holds a picture, or was trained on it."""

    sha256: str
    uploads: tuple[str, ...]  # keys, with those of captions of this picture alone
    versions: tuple[tuple[str, str], ...]  # of datasets
    trained: tuple[TrainedOn, ...]
    withdrawn: bool = False

    @property
    def datasets(self) -> list[str]:
        """The datasets that hold it, sorted."""
        return sorted({dataset for dataset, _ in self.versions} | {key.split("/")[1] for key in self.uploads})


def find_picture(installation: Installation, request: ForgetRequest) -> PictureHolders:
    """What holds a picture; raises UploadUnknown."""
    store = installation.store
    sha256, names = _identify(store, request.dataset, request.picture)
    versions = [found for found in _manifests(store) if any(item.sha256 == sha256 for item in found.items)]
    names |= {f"uploads/{v.dataset}/{i.name}" for v in versions for i in v.items if i.sha256 == sha256}
    uploads = {key for name in names for key in _copies(store, name, sha256)}
    held = {(found.dataset, found.version) for found in versions}
    return PictureHolders(
        sha256=sha256,
        uploads=tuple(sorted(uploads | {text for key in uploads for text in _captions(store, key)})),
        versions=tuple(sorted(held)),
        trained=tuple(_trained_on(store, model.name, held) for model in installation.models()),
    )


def forget_picture(installation: Installation, request: ForgetRequest, held: PictureHolders) -> PictureHolders:
    """Delete what was found, except what was trained on it where that is not asked for; returns what was done."""
    store = installation.store
    quarantined = [f"quarantine/{dataset}/{held.sha256}.json" for dataset in held.datasets]
    store.purge([*held.uploads, *quarantined, f"blobs/{held.sha256}"])
    shutil.rmtree(installation.settings.cache / "latents", ignore_errors=True)
    for trained in held.trained if request.withdraw else ():
        _withdraw(installation, trained, request)
    store.purge(key for dataset in held.datasets for key in (index_key(dataset), failure_key(dataset)))
    for dataset in store.folders("datasets/"):  # also where an ingest ended before there was a version
        forget_made(store, dataset, held.sha256)
    for dataset in held.datasets:
        forget_side(store, dataset, held.sha256)
    for dataset, version in held.versions:
        forget_item(store, dataset, version, held.sha256)
    return held.model_copy(update={"withdrawn": request.withdraw})


def _identify(store: Store, dataset: str, picture: str) -> tuple[str, set[str]]:
    """The sha256 of a picture, and its key if it is among the uploads."""
    if re.fullmatch("[0-9a-f]{64}", picture):
        return picture, set()
    key = f"uploads/{dataset}/{picture}"
    with suppress(ObjectMissing):
        return store.sha256(key), {key}
    for version in reversed([found for found in _manifests(store) if found.dataset == dataset]):
        if found := next((item.sha256 for item in version.items if item.name == picture), ""):
            return found, {key}
    raise UploadUnknown(dataset, picture)


def _manifests(store: Store) -> Iterator[Manifest]:
    for dataset in store.folders("datasets/"):
        for version in store.folders(f"datasets/{dataset}/"):
            if store.exists(manifest_key(dataset, version)):
                yield load_manifest(store, dataset, version)


def _copies(store: Store, key: str, sha256: str) -> Iterator[str]:
    """The upload and others of its dataset that are the same file: of the same size, and then of the same bytes."""
    found = {each.key: each.size for each in store.scan("/".join(key.split("/")[:2]) + "/")}
    sizes = {found[key]} if key in found else set(found.values())
    for other, size in found.items():
        if size in sizes:
            with suppress(ObjectMissing):
                if store.sha256(other) == sha256:
                    yield other


def _captions(store: Store, key: str) -> Iterator[str]:
    """The texts of a picture alone; tables of captions are a person's to change."""
    stem = str(PurePosixPath(key).with_suffix(""))
    yield from (text for ending in TEXTS for text in (stem + ending, key + ending) if store.exists(text))


def _trained_on(store: Store, model: str, versions: set[tuple[str, str]]) -> TrainedOn:
    results = read_documents(store, TrainResult, result_folder(model, TrainResult))
    mine = [result for result in results if (result.dataset, result.dataset_version) in versions]
    entries = [entry for entry in history(store, model) if entry.action != "roll_back"]
    releases = [entry.release for entry in entries if (entry.dataset, entry.dataset_version) in versions]
    return TrainedOn(
        model=model,
        trainings=tuple(result.key for result in mine),
        releases=tuple(dict.fromkeys(release for release in releases if release)),
        runs=tuple(result.mlflow_run for result in mine if result.mlflow_run),
    )


def _withdraw(installation: Installation, trained: TrainedOn, request: ForgetRequest) -> None:
    """Withdraw the releases with their weights; delete trainings that never became one."""
    model = installation.model(trained.model)
    for release in trained.releases:
        reason = f"it was trained on a picture that is forgotten: {request.reason}"
        withdraw(
            installation,
            model,
            WithdrawRequest(release=release, delete_weights=True, actor=request.actor, reason=reason),
        )
    for training in trained.trainings:
        installation.store.purge([f"{result_folder(model.name, TrainResult)}{training}.json"])
        delete_prefix(installation.store, checkpoint_folder(model.name, training))
