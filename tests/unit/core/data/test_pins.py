"""A pinned version is what a model is trained on, whatever is uploaded; the others are not touched."""

from datetime import timedelta
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.config.requests import PromoteRequest, Retention, RetrainRequest, RollBackRequest
from tasks.core.data.dataset import Manifest, load_manifest
from tasks.core.data.ingest import ingest
from tasks.core.data.pins import dataset_pins, pin_dataset, read_dataset_pin, training_version, unpin_dataset
from tasks.core.errors import DatasetUnusable, StoreConflict
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.roll_back import roll_back
from tasks.core.lifecycle.sweep import sweep
from tasks.core.registry.ledger import history
from tasks.core.registry.models import apply_config
from tasks.core.retraining.causes import decide_by_hand, decide_on_data
from tasks.core.store import FolderStore
from tasks.retrain import training_of
from tests.adire import adire, installed
from tests.candidates import evaluated
from tests.odd_pictures import encoded, noise


@pytest.fixture
def model(folder: FolderStore) -> ModelConfig:
    return apply_config(folder, adire(overrides={"policy": {"min_new_pictures": 1}})).config


def version(store: FolderStore, *numbers: int) -> Manifest:
    """The version after these pictures were uploaded too."""
    for number in numbers:
        store.write(f"uploads/adire/{number}.png", encoded(noise(number)))
    return ingest(store, "adire", IngestSpec())[0]


def manifests(store: FolderStore) -> set[str]:
    return {key.split("/")[2] for key in store.list("datasets/adire/") if key.endswith("/manifest.json")}


def pin(store: FolderStore, model: ModelConfig, manifest: Manifest) -> None:
    pin_dataset(store, model, manifest.dataset, manifest.version, "ada", "the autumn show")


def unpin(store: FolderStore, model: ModelConfig) -> None:
    unpin_dataset(store, model.name, "adire", "ada", "it is over")


def test_a_pin_is_of_one_model_and_ends(folder: FolderStore, model: ModelConfig) -> None:
    first, second = version(folder, 1), version(folder, 2)
    pin(folder, model, first)
    assert training_version(folder, model.name, "adire") == first.version
    assert training_version(folder, "batik", "adire") == second.version
    found = read_dataset_pin(folder, model.name, "adire")
    assert found
    assert (found.version, found.actor, found.reason) == (first.version, "ada", "the autumn show")
    assert list(dataset_pins(folder, model.name)) == [found]
    unpin(folder, model)
    assert training_version(folder, model.name, "adire") == second.version
    assert list(dataset_pins(folder, model.name)) == []


def test_only_a_version_that_there_is_can_be_pinned(folder: FolderStore, model: ModelConfig) -> None:
    with pytest.raises(DatasetUnusable, match="has no version 0123456789abcdef"):
        pin_dataset(folder, model, "adire", "0123456789abcdef", "ada", "why not")
    with pytest.raises(DatasetUnusable, match="model 'adire' subscribes to adire alone"):
        pin_dataset(folder, model, "cloth", "0123456789abcdef", "ada", "why not")
    assert list(dataset_pins(folder, model.name)) == []


class Slow(FolderStore):
    """A store in which another one pins between this one's reading and writing."""

    def swap(self, key: str, data: bytes, version: str | None) -> None:
        super().swap(key, b'{"of": "another"}', version)
        super().swap(key, data, version)


def test_of_two_that_pin_at_once_one_is_told(folder: FolderStore, model: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(StoreConflict):
        pin(Slow(tmp_path / "store"), model, version(folder, 1))


def test_uploads_become_versions_and_start_no_retrain_of_the_model(folder: FolderStore, model: ModelConfig) -> None:
    first = version(folder, 1)
    decision = decide_on_data(folder, model, first)
    assert decision
    assert decision.action == "retrain"
    pin(folder, model, first)
    second = version(folder, 2, 3)
    declined = decide_on_data(folder, model, second)
    assert declined
    assert declined.action == "declined"
    assert declined.reason.startswith(f"the dataset is pinned to version {first.version}; `dyeworks data unpin` ends")
    assert load_manifest(folder, "adire") == second
    assert decide_on_data(folder, model, second, again=True) is None


def test_the_next_check_after_the_pin_decides_again(folder: FolderStore, model: ModelConfig) -> None:
    first = version(folder, 1)
    pin(folder, model, first)
    second = version(folder, 2)
    assert decide_on_data(folder, model, second)
    unpin(folder, model)
    again = decide_on_data(folder, model, second, again=True)
    assert again
    assert (again.action, again.dataset_version) == ("retrain", second.version)


def test_a_pin_to_the_newest_version_changes_nothing_of_its_decision(folder: FolderStore, model: ModelConfig) -> None:
    first = version(folder, 1)
    pin(folder, model, first)
    decision = decide_on_data(folder, model, first)
    assert decision
    assert decision.action == "retrain"


def test_a_retrain_trains_on_the_pinned_version(folder: FolderStore, model: ModelConfig) -> None:
    first, second = version(folder, 1), version(folder, 2)
    with disable_run_logger():
        assert training_of(RetrainRequest(cause="manual")).version == second.version
        pin(folder, model, first)
        assert training_of(RetrainRequest(cause="manual")).version == first.version
    assert decide_by_hand(folder, model, "run").dataset_version == first.version


def test_a_pinned_version_is_never_swept(
    folder: FolderStore, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, third = (version(folder, number) for number in (1, 2, 3))
    pin(folder, model, first)
    later = clock.now() + timedelta(days=100)
    monkeypatch.setattr(clock, "now", lambda: later)
    sweep(folder, Retention())
    assert manifests(folder) == {first.version, third.version}
    unpin(folder, model)
    sweep(folder, Retention())
    assert manifests(folder) == {third.version}


def test_a_roll_back_holds_what_is_pinned(folder: FolderStore, model: ModelConfig) -> None:
    first = version(folder, 1)
    version(folder, 2)
    pin(folder, model, first)
    for training in "ab":
        evaluation = evaluated(folder, training, len(history(folder, model.name)))
        promote(installed(folder), model, PromoteRequest(evaluation=evaluation))
    assert roll_back(installed(folder), model, RollBackRequest()).dataset_version == first.version
