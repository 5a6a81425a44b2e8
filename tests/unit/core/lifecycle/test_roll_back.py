"""Roll-back to the previous or a given generation, never to a withdrawn one, once for each cause."""

from pathlib import Path

import pytest

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.config.requests import PromoteRequest, PublishRequest, RollBackRequest, WithdrawRequest
from tasks.core.data.ingest import ingest
from tasks.core.errors import ObjectMissing, ReleaseCorrupt, ReleaseWithdrawn
from tasks.core.evaluation.plan import winning_evaluation
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.lifecycle.reconcile import _channel
from tasks.core.lifecycle.roll_back import NothingToRollBack, repeatable, roll_back
from tasks.core.lifecycle.withdraw import withdraw
from tasks.core.models.identity import WEIGHTS
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import Entry, history, profile_generation
from tasks.core.registry.releases import MANIFEST, prefix
from tasks.core.store import FolderStore
from tests.adire import installed
from tests.candidates import evaluated


def generations(store: FolderStore, model: ModelConfig, trainings: str) -> list[Entry]:
    """Promote these trainings in turn, after the newest generation."""
    for training in trainings:
        request = PromoteRequest(evaluation=evaluated(store, training, len(history(store, model.name))))
        assert promote(installed(store), model, request).generation
    return history(store, model.name)


def test_a_roll_back_is_a_new_generation(folder: FolderStore, model: ModelConfig, tmp_path: Path) -> None:
    draw_uploads(tmp_path / "store/uploads" / model.dataset, 2, FIRST_TASTE, seed=1)
    version = ingest(folder, model.dataset, IngestSpec())[0].version
    with pytest.raises(NothingToRollBack):
        roll_back(installed(folder), model, RollBackRequest())
    first, second = generations(folder, model, "ab")
    entry = roll_back(installed(folder), model, RollBackRequest(actor="ada", reason="too blue"))
    assert history(folder, model.name) == [first, second, entry]
    assert (entry.generation, entry.action, entry.restores, entry.release) == (3, "roll_back", 1, first.release)
    assert (entry.abandons, entry.dataset_version) == (second.release, version)
    assert (entry.actor, entry.reason) == ("ada", "too blue")
    assert profile_generation([first, second, entry]) == 1
    assert winning_evaluation(installed(folder), model, "a") == "", "a roll-back is no promotion"


def test_a_roll_back_needs_no_dataset(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "ab")
    assert roll_back(installed(folder), model, RollBackRequest()).dataset_version == ""


def test_repeated_roll_backs_go_further_back_until_none_is_left(folder: FolderStore, model: ModelConfig) -> None:
    first, second, _ = generations(folder, model, "abc")
    assert roll_back(installed(folder), model, RollBackRequest()).release == second.release
    assert roll_back(installed(folder), model, RollBackRequest()).release == first.release
    with pytest.raises(NothingToRollBack):
        roll_back(installed(folder), model, RollBackRequest())


def test_the_previous_generation_of_a_promotion_after_a_roll_back_is_the_restored_one(
    folder: FolderStore, model: ModelConfig
) -> None:
    first = generations(folder, model, "ab")[0]
    roll_back(installed(folder), model, RollBackRequest())
    generations(folder, model, "c")
    entry = roll_back(installed(folder), model, RollBackRequest())
    assert (entry.release, entry.restores) == (first.release, 1)


def test_the_previous_generation_is_of_another_lora(folder: FolderStore, model: ModelConfig) -> None:
    first, second = generations(folder, model, "ab")
    again = PromoteRequest(evaluation=evaluated(folder, "b", 2), actor="ada", reason="once more")
    assert promote(installed(folder), model, again).release != second.release, "another card"
    assert roll_back(installed(folder), model, RollBackRequest()).release == first.release


def test_the_previous_generation_is_neither_withdrawn_nor_abandoned(folder: FolderStore, model: ModelConfig) -> None:
    first = generations(folder, model, "abc")[0]
    roll_back(installed(folder), model, RollBackRequest(reason="leaves c"))
    generations(folder, model, "d")
    withdraw(installed(folder), model, WithdrawRequest(generation=2, reason="a picture was removed"))
    assert roll_back(installed(folder), model, RollBackRequest()).release == first.release


def test_a_given_generation_may_be_an_abandoned_one(folder: FolderStore, model: ModelConfig) -> None:
    second = generations(folder, model, "abc")[1]
    roll_back(installed(folder), model, RollBackRequest(generation=1))
    entry = roll_back(installed(folder), model, RollBackRequest(generation=2))
    assert (entry.generation, entry.release, entry.restores) == (5, second.release, 2)
    for name in (6, 99):
        with pytest.raises(NothingToRollBack, match=f"no generation {name}"):
            roll_back(installed(folder), model, RollBackRequest(generation=name))


def test_a_roll_back_to_the_restored_generation_adds_no_entry(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "ab")
    request = RollBackRequest(generation=1)
    assert roll_back(installed(folder), model, request) == roll_back(installed(folder), model, request)
    assert len(history(folder, model.name)) == 3


def test_a_roll_back_to_a_withdrawn_generation_is_rejected(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "abc")
    withdraw(installed(folder), model, WithdrawRequest(generation=1, actor="ada", reason="a picture was removed"))
    with pytest.raises(ReleaseWithdrawn, match="withdrawn by ada"):
        roll_back(installed(folder), model, RollBackRequest(generation=1))
    assert len(history(folder, model.name)) == 3


def test_a_repeated_alarm_rolls_back_once(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "abc")
    alarm = RollBackRequest(leaves=3, actor="storefront", reason="error rate")
    entry = roll_back(installed(folder), model, alarm)
    assert entry.restores == 2
    assert roll_back(installed(folder), model, alarm) == entry
    assert len(history(folder, model.name)) == 4


def test_an_alarm_of_an_older_generation_changes_nothing(folder: FolderStore, model: ModelConfig) -> None:
    newest = generations(folder, model, "abc")[-1]
    assert roll_back(installed(folder), model, RollBackRequest(leaves=2)) == newest
    assert len(history(folder, model.name)) == 3


@pytest.mark.parametrize("by", ["the same alarm", "reconcile"])
def test_a_roll_back_killed_before_its_publication_is_completed(
    folder: FolderStore, model: ModelConfig, by: str
) -> None:
    first = generations(folder, model, "ab")[0]
    publish(installed(folder), model, PublishRequest())
    alarm = RollBackRequest(leaves=2)
    roll_back(installed(folder), model, alarm)
    if by == "reconcile":
        assert list(_channel(installed(folder), model)) == ["the champion channel points at generation 3"]
    else:
        publish(
            installed(folder), model, PublishRequest(generation=roll_back(installed(folder), model, alarm).generation)
        )
    channel, _ = read_channel(folder, model.name)
    assert channel is not None
    assert (channel.generation, channel.release) == (3, first.release)


@pytest.mark.parametrize("lost", [WEIGHTS, MANIFEST])
def test_a_release_without_its_files_is_skipped(folder: FolderStore, model: ModelConfig, lost: str) -> None:
    first, second, _ = generations(folder, model, "abc")
    folder.delete(prefix(model.name, second.release) + lost)
    entry = roll_back(installed(folder), model, RollBackRequest(leaves=3))
    assert (entry.generation, entry.restores, entry.release) == (4, 1, first.release)
    assert publish(installed(folder), model, PublishRequest()).generation == 4


def test_a_withdrawal_skips_a_damaged_release(folder: FolderStore, model: ModelConfig) -> None:
    first, second, _ = generations(folder, model, "abc")
    folder.write(prefix(model.name, second.release) + WEIGHTS, b"tampered")
    withdraw(installed(folder), model, WithdrawRequest(generation=3, reason="a picture was removed"))
    assert history(folder, model.name)[-1].release == first.release


def test_a_champion_without_its_manifest_can_be_rolled_back(folder: FolderStore, model: ModelConfig) -> None:
    _, second, third = generations(folder, model, "abc")
    folder.delete(prefix(model.name, third.release) + MANIFEST)
    assert roll_back(installed(folder), model, RollBackRequest()).release == second.release


def test_a_roll_back_to_a_damaged_release_adds_no_entry(folder: FolderStore, model: ModelConfig) -> None:
    first, second, _ = generations(folder, model, "abc")
    folder.write(prefix(model.name, first.release) + WEIGHTS, b"tampered")
    folder.delete(prefix(model.name, second.release) + WEIGHTS)
    with pytest.raises(ReleaseCorrupt):
        roll_back(installed(folder), model, RollBackRequest(generation=1))
    with pytest.raises(ObjectMissing):
        roll_back(installed(folder), model, RollBackRequest(generation=2))
    assert len(history(folder, model.name)) == 3


def test_a_request_without_a_target_is_repeatable(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "abc")
    request = repeatable(installed(folder), model, RollBackRequest(actor="ada"))
    assert request == RollBackRequest(actor="ada", leaves=3)
    entry = roll_back(installed(folder), model, request)
    assert (entry.generation, entry.restores) == (4, 2)
    assert roll_back(installed(folder), model, request) == entry
    for named in (RollBackRequest(generation=1), RollBackRequest(leaves=2), RollBackRequest(attempt=2)):
        assert repeatable(installed(folder), model, named) == named


def test_a_roll_back_restarted_after_a_crash_goes_no_further_back(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "abc")
    entry = roll_back(installed(folder), model, RollBackRequest())
    assert roll_back(installed(folder), model, RollBackRequest(attempt=2)) == entry
    assert roll_back(installed(folder), model, RollBackRequest(leaves=4, attempt=2)).restores == 1, (
        "interrupted before its entry"
    )
