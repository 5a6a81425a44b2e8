"""What starts a retrain: data of the model's own datasets, drift, a person."""

from datetime import timedelta

import pytest

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import PolicySpec
from tasks.core.registry.ledger import Entry, append
from tasks.core.retraining.causes import RetrainInFlight, decide_by_hand, decide_on_data, decide_on_drift
from tasks.core.retraining.decisions import make_decision, read_decisions, record_decision
from tasks.core.retraining.leases import end_retrain
from tasks.core.store import FolderStore
from tasks.core.store.documents import render
from tests.adire import adire
from tests.deciders import manifest_of, record_of, time_of

POLICY = {"hits": 1, "of": 1, "cooldown_hours": 0, "min_new_pictures": 50}


@pytest.fixture(autouse=True)
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: time_of(11))


@pytest.fixture
def model() -> ModelConfig:
    return adire(datasets=["adire", "extra"], overrides={"policy": POLICY})


def entry(store: FolderStore, dataset: str, version: str) -> None:
    """A champion that was trained on this."""
    made = {"generation": 1, "action": "promote", "release": "r", "training": "t", "actor": "gate", "reason": "better"}
    append(
        store,
        "adire",
        Entry.model_validate(made | {"dataset": dataset, "dataset_version": version, "time": time_of(0)}),
    )


def test_new_pictures_are_counted_within_their_dataset(folder: FolderStore, model: ModelConfig) -> None:
    old, new = manifest_of("adire", 1), manifest_of("adire", 2)
    folder.write("datasets/adire/v1/manifest.json", render(old))
    entry(folder, "adire", "v1")
    other = decide_on_data(folder, model, manifest_of("extra", 1))
    assert other
    assert (other.action, other.dataset, other.new_pictures) == ("retrain", "extra", 100), "no generation knows extra"
    record_decision(folder, model.name, make_decision("outcome", time_of(1), ("none", ""), other.id))
    same = decide_on_data(folder, model, new.model_copy(update={"items": old.items[:99] + new.items[:1]}))
    assert same
    assert (same.dataset, same.new_pictures) == ("adire", 1)


def test_a_version_that_vanished_stops_nothing(folder: FolderStore, model: ModelConfig) -> None:
    entry(folder, "adire", "deleted")
    found = decide_on_data(folder, model, manifest_of("adire", 1))
    assert found
    assert (found.action, found.new_pictures) == ("retrain", 100), "without it all are new"
    assert decide_on_drift(folder, model, record_of("adire", 2), model.preset.policy).reason.startswith("retrain data-")


def test_a_roll_back_holds_only_on_its_dataset(folder: FolderStore, model: ModelConfig) -> None:
    entry(folder, "adire", "v1")
    back = {"generation": 2, "action": "roll_back", "release": "", "actor": "ada", "reason": "too blue"}
    back |= {"dataset": "adire", "dataset_version": "", "time": time_of(1)}
    append(folder, "adire", Entry.model_validate(back))
    held = decide_on_drift(folder, model, record_of("adire", 9), model.preset.policy)
    assert (held.action, held.reason[:5]) == ("declined", "hold:")
    other = adire(datasets=["extra"], overrides={"policy": POLICY})
    assert decide_on_drift(folder, other, record_of("adire", 10), other.preset.policy).action == "retrain"


def test_a_calm_check_is_not_in_the_ledger(folder: FolderStore, model: ModelConfig) -> None:
    calm = record_of("adire", 1).model_copy(update={"verdict": "stable"})
    assert decide_on_drift(folder, model, calm, PolicySpec()).action == "none"
    assert read_decisions(folder, "adire") == []


def test_a_check_is_decided_once_even_if_the_situation_has_changed(folder: FolderStore, model: ModelConfig) -> None:
    first = decide_on_drift(folder, model, record_of("adire", 10), model.preset.policy)
    assert first.action == "retrain"
    assert decide_on_drift(folder, model, record_of("adire", 10), model.preset.policy) == first
    assert len(read_decisions(folder, "adire")) == 1


def test_a_person_starts_one_retrain_at_a_time(folder: FolderStore, model: ModelConfig) -> None:
    record_decision(folder, "adire", make_decision("operator", time_of(0), ("pause", "ada"), "1"))
    first = decide_by_hand(folder, model, "run-1")
    assert (first.cause, first.action) == ("manual", "retrain"), "a pause is for automatic retrains"
    assert decide_by_hand(folder, model, "run-1") == first, "the same run, started again"
    with pytest.raises(RetrainInFlight, match=rf"retrain {first.id} of model 'adire' is in flight; wait for its end"):
        decide_by_hand(folder, model, "run-2")
    about = {"outcome_of": first.id, "outcome": "keep"}
    ended = make_decision("outcome", time_of(0) + timedelta(hours=1), ("none", "not better"), first.id)
    end_retrain(folder, "adire", ended.model_copy(update=about))
    assert decide_by_hand(folder, model, "run-2").id != first.id


def test_decisions_of_two_models_are_independent(folder: FolderStore, model: ModelConfig) -> None:
    decide_by_hand(folder, model, "run-1")
    batik = adire(name="batik", overrides={"policy": POLICY})
    found = decide_on_data(folder, batik, manifest_of("batik", 1))
    assert found
    assert (found.model, found.action) == ("batik", "retrain")
    assert [d.cause for d in read_decisions(folder, "adire")] == ["manual"]
