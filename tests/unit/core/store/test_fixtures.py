"""Stores that each version of dyeworks since 0.2.0 has written: every later one must read them.

A version that writes something new adds a folder, by `python -m tests.ring_store tests/stores/VERSION`; none is
ever changed.
"""

import json
import shutil
from pathlib import Path

import pytest

from tasks.core.registry.ledger import champion
from tasks.core.registry.releases import read_manifest, verify_release
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.ring_store import fill, look

STORES = Path(__file__).parents[3] / "stores"
VERSIONS = sorted(path.name for path in STORES.iterdir())


def copied(version: str, folder: Path) -> FolderStore:
    shutil.copytree(STORES / version, folder / version)
    return FolderStore(folder / version)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_reader_reads_the_store_of_an_earlier_version(version: str, tmp_path: Path) -> None:
    found = look(copied(version, tmp_path), "adire")
    assert len(found) > 30
    kinds = {type(document).__name__ for document in found}
    assert kinds >= {"Entry", "RetrainDecision", "Lease", "Channel", "ReleaseManifest", "Withdrawal", "AppliedConfig"}
    assert kinds >= {"TrainResult", "EvaluationResult", "PromotionResult", "PublishResult", "DriftRecord", "Checkpoint"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_release_of_an_earlier_version_is_the_champion_under_its_name(version: str, tmp_path: Path) -> None:
    store = copied(version, tmp_path)
    entry = champion(store, "adire")
    assert entry
    assert (entry.generation, entry.action, entry.training, entry.dataset) == (4, "roll_back", "b", "adire")
    assert verify_release(store, "adire", entry.release).training == "b"
    assert b'"schema_version": 1' in read_manifest(store, "adire", entry.release)


def test_the_newest_fixture_has_every_kind_of_document_that_is_written(folder: FolderStore) -> None:
    fill(folder, adire())
    assert fields_of(folder) <= fields_of(FolderStore(STORES / VERSIONS[-1])), (
        "a document has a new field or place: write the store of this version into tests/stores"
    )


def fields_of(store: FolderStore) -> set[tuple[str, ...]]:
    """Where documents lie, without names and keys, and their fields."""
    return {
        (*place(key), name)
        for key in store.list("")
        if key.endswith((".json", "/latest"))
        for name in json.loads(store.read(key))
    }


def place(key: str) -> tuple[str, ...]:
    parts = key.split("/")
    return tuple(parts[: 4 if parts[2:3] in (["results"], ["drift"]) else 3 if parts[0] == "models" else 1])
