"""The versions of a dataset: in their order, by their names, and compared."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.core.config.model import ModelConfig
from tasks.core.data.dataset import Item, Manifest, load_manifest, manifest_key, newest_version
from tasks.core.data.parallel import in_order
from tasks.core.data.pins import pinned_version
from tasks.core.errors import DatasetUnusable
from tasks.core.registry.ledger import history
from tasks.core.store import Store

NEWEST, PINNED = "newest", "pinned"  # names of versions beside their own and unique prefixes of it


class VersionUnknown(DatasetUnusable):
    """No version of a dataset, or more than one, has this name."""

    def __init__(self, dataset: str, name: str, found: Sequence[str]) -> None:
        several = f"versions {', '.join(found)} begin with {name!r}; name one of them"
        super().__init__(dataset, several if found else f"has no version {name!r}; see `dyeworks data list`")
        self.name, self.found = name, tuple(found)


class NothingPinned(DatasetUnusable):
    """The pinned version is asked for, and there is none."""

    def __init__(self, dataset: str, model: str) -> None:
        super().__init__(dataset, f"model {model!r} has no version of it pinned")
        self.model = model


@dataclass(frozen=True)
class VersionLine:
    """A version, and what it is to the models that subscribe to the dataset."""

    manifest: Manifest
    newest: bool
    pinned: tuple[str, ...]  # models whose trainings stay at it
    champions: tuple[str, ...]  # models whose champion was trained on it


@dataclass(frozen=True)
class VersionChange:
    """What one version has and another has not; pictures by their content."""

    added: tuple[Item, ...]
    removed: tuple[Item, ...]
    recaptioned: tuple[tuple[Item, Item], ...]  # the same picture before and after


def version_lines(store: Store, dataset: str, models: Sequence[ModelConfig]) -> list[VersionLine]:
    """All versions, oldest first."""
    newest = newest_version(store, dataset)
    pinned = {model.name: pinned_version(store, model.name, dataset) for model in models}
    trained = {model.name: champion_version(store, model.name, dataset) for model in models}

    def line(manifest: Manifest) -> VersionLine:
        version = manifest.version
        return VersionLine(manifest, version == newest, _names(pinned, version), _names(trained, version))

    return [line(manifest) for manifest in _manifests(store, dataset)]


def _names(versions: dict[str, str], version: str) -> tuple[str, ...]:
    return tuple(name for name, found in versions.items() if found == version)


def _manifests(store: Store, dataset: str) -> list[Manifest]:
    names = [name for name in store.folders(f"datasets/{dataset}/") if store.exists(manifest_key(dataset, name))]
    found = in_order(lambda name: load_manifest(store, dataset, name), names)
    return sorted(found, key=lambda manifest: (manifest.created, manifest.version))


def champion_version(store: Store, model: str, dataset: str) -> str:
    """The version that the champion was trained on; empty: on none of the dataset."""
    entries = history(store, model)
    training = entries[-1].training if entries else ""
    first = next((entry for entry in entries if training and entry.training == training), None)  # of its promotion
    return first.dataset_version if first and first.dataset in {"", dataset} else ""  # "": before 0.3.0


def find_version(store: Store, dataset: str, name: str, model: str) -> Manifest:
    """A version by its name, a unique prefix of it, `newest`, or `pinned`: that of a model.

    Raises:
        VersionUnknown: none has the name, or several begin with it.
        NothingPinned: no version is pinned for the model.
    """
    if name == NEWEST:
        return load_manifest(store, dataset)
    if name == PINNED:
        if version := pinned_version(store, model, dataset):
            return load_manifest(store, dataset, version)
        raise NothingPinned(dataset, model)
    there = list(store.folders(f"datasets/{dataset}/"))
    found = [name] if name in there else [version for version in there if name and version.startswith(name)]
    if len(found) != 1:
        raise VersionUnknown(dataset, name, found)
    return load_manifest(store, dataset, found[0])


def compare_versions(old: Manifest, new: Manifest) -> VersionChange:
    """What has changed from one version to another, by the names of the pictures."""
    before, after = ({item.sha256: item for item in each.items} for each in (old, new))
    both = [(before[sha256], item) for sha256, item in after.items() if sha256 in before]
    return VersionChange(
        added=_sorted(item for sha256, item in after.items() if sha256 not in before),
        removed=_sorted(item for sha256, item in before.items() if sha256 not in after),
        recaptioned=tuple(sorted(((a, b) for a, b in both if a.caption != b.caption), key=lambda pair: pair[1].name)),
    )


def _sorted(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(sorted(items, key=lambda item: item.name))
