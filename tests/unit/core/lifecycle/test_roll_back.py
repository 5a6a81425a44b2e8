"""Roll-back: to the previous or a named generation, never to what was withdrawn or left, once for each cause."""

from pathlib import Path

import pytest

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.config.installation import Settings
from tasks.core.config.presets import IngestSpec
from tasks.core.config.requests import PromoteRequest, PublishRequest, RollBackRequest, WithdrawRequest
from tasks.core.data.dataset import ingest
from tasks.core.errors import ObjectMissing, ReleaseCorrupt, ReleaseWithdrawn
from tasks.core.evaluation.plan import won_with
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.lifecycle.reconcile import _channel
from tasks.core.lifecycle.roll_back import NothingToRollBack, repeatable, roll_back
from tasks.core.lifecycle.withdraw import withdraw
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import Entry, history, profile_generation
from tasks.core.registry.releases import MANIFEST, WEIGHTS, prefix
from tasks.core.store import FolderStore
from tests.candidates import evaluated


def generations(store: FolderStore, settings: Settings, trainings: str) -> list[Entry]:
    """Promote these one after the other, from the newest generation on."""
    for training in trainings:
        request = PromoteRequest(evaluation=evaluated(store, training, len(history(store, settings.model))))
        assert promote(store, settings, request).generation
    return history(store, settings.model)


def test_it_is_one_more_generation(folder: FolderStore, settings: Settings, tmp_path: Path) -> None:
    draw_uploads(tmp_path / "store/uploads" / settings.dataset, 2, FIRST_TASTE, seed=1)
    version = ingest(folder, settings.dataset, IngestSpec())[0].version
    with pytest.raises(NothingToRollBack):
        roll_back(folder, settings, RollBackRequest())
    first, second = generations(folder, settings, "ab")
    entry = roll_back(folder, settings, RollBackRequest(actor="ada", reason="too blue"))
    assert history(folder, settings.model) == [first, second, entry]
    assert (entry.generation, entry.action, entry.restores, entry.release) == (3, "roll_back", 1, first.release)
    assert (entry.abandons, entry.dataset_version) == (second.release, version)
    assert (entry.actor, entry.reason) == ("ada", "too blue")
    assert profile_generation([first, second, entry]) == 1
    assert won_with(folder, settings, "a") == "", "a roll-back is no promotion"


def test_without_a_dataset_it_works_too(folder: FolderStore, settings: Settings) -> None:
    generations(folder, settings, "ab")
    assert roll_back(folder, settings, RollBackRequest()).dataset_version == ""


def test_again_it_goes_further_back_and_then_ends(folder: FolderStore, settings: Settings) -> None:
    first, second, _ = generations(folder, settings, "abc")
    assert roll_back(folder, settings, RollBackRequest()).release == second.release
    assert roll_back(folder, settings, RollBackRequest()).release == first.release
    with pytest.raises(NothingToRollBack):
        roll_back(folder, settings, RollBackRequest())


def test_the_previous_of_a_promotion_after_a_roll_back_is_what_was_served_then(
    folder: FolderStore, settings: Settings
) -> None:
    first = generations(folder, settings, "ab")[0]
    roll_back(folder, settings, RollBackRequest())
    generations(folder, settings, "c")
    entry = roll_back(folder, settings, RollBackRequest())
    assert (entry.release, entry.restores) == (first.release, 1)


def test_the_previous_is_another_lora(folder: FolderStore, settings: Settings) -> None:
    first, second = generations(folder, settings, "ab")
    again = PromoteRequest(evaluation=evaluated(folder, "b", 2), actor="ada", reason="once more")
    assert promote(folder, settings, again).release != second.release, "another card"
    assert roll_back(folder, settings, RollBackRequest()).release == first.release


def test_the_previous_is_neither_withdrawn_nor_one_that_was_left(folder: FolderStore, settings: Settings) -> None:
    first = generations(folder, settings, "abc")[0]
    roll_back(folder, settings, RollBackRequest(reason="leaves c"))
    generations(folder, settings, "d")
    withdraw(folder, settings, WithdrawRequest(generation=2, reason="a picture was removed"))
    assert roll_back(folder, settings, RollBackRequest()).release == first.release


def test_a_named_generation_even_one_that_was_left(folder: FolderStore, settings: Settings) -> None:
    second = generations(folder, settings, "abc")[1]
    roll_back(folder, settings, RollBackRequest(generation=1))
    entry = roll_back(folder, settings, RollBackRequest(generation=2))
    assert (entry.generation, entry.release, entry.restores) == (5, second.release, 2)
    for name in (6, 99):
        with pytest.raises(NothingToRollBack, match=f"no generation {name}"):
            roll_back(folder, settings, RollBackRequest(generation=name))


def test_a_named_generation_that_is_served_again_already_is_not_entered_twice(
    folder: FolderStore, settings: Settings
) -> None:
    generations(folder, settings, "ab")
    request = RollBackRequest(generation=1)
    assert roll_back(folder, settings, request) == roll_back(folder, settings, request)
    assert len(history(folder, settings.model)) == 3


def test_a_named_generation_that_was_withdrawn_is_refused(folder: FolderStore, settings: Settings) -> None:
    generations(folder, settings, "abc")
    withdraw(folder, settings, WithdrawRequest(generation=1, actor="ada", reason="a picture was removed"))
    with pytest.raises(ReleaseWithdrawn, match="withdrawn by ada"):
        roll_back(folder, settings, RollBackRequest(generation=1))
    assert len(history(folder, settings.model)) == 3


def test_an_alarm_that_comes_twice_rolls_back_once(folder: FolderStore, settings: Settings) -> None:
    generations(folder, settings, "abc")
    alarm = RollBackRequest(leaves=3, actor="storefront", reason="error rate")
    entry = roll_back(folder, settings, alarm)
    assert entry.restores == 2
    assert roll_back(folder, settings, alarm) == entry
    assert len(history(folder, settings.model)) == 4


def test_an_alarm_about_a_generation_that_is_gone_changes_nothing(folder: FolderStore, settings: Settings) -> None:
    newest = generations(folder, settings, "abc")[-1]
    assert roll_back(folder, settings, RollBackRequest(leaves=2)) == newest
    assert len(history(folder, settings.model)) == 3


@pytest.mark.parametrize("by", ["the same alarm", "reconcile"])
def test_killed_before_its_publication_the_channel_is_put_right(
    folder: FolderStore, settings: Settings, by: str
) -> None:
    first = generations(folder, settings, "ab")[0]
    publish(folder, settings, PublishRequest())
    alarm = RollBackRequest(leaves=2)
    roll_back(folder, settings, alarm)
    if by == "reconcile":
        assert list(_channel(folder, settings)) == ["the champion channel points at generation 3"]
    else:
        publish(folder, settings, PublishRequest(generation=roll_back(folder, settings, alarm).generation))
    channel, _ = read_channel(folder, settings.model)
    assert channel is not None
    assert (channel.generation, channel.release) == (3, first.release)


@pytest.mark.parametrize("lost", [WEIGHTS, MANIFEST])
def test_one_whose_files_are_gone_is_passed_over(folder: FolderStore, settings: Settings, lost: str) -> None:
    first, second, _ = generations(folder, settings, "abc")
    folder.delete(prefix(settings.model, second.release) + lost)
    entry = roll_back(folder, settings, RollBackRequest(leaves=3))
    assert (entry.generation, entry.restores, entry.release) == (4, 1, first.release)
    assert publish(folder, settings, PublishRequest()).generation == 4


def test_one_that_was_changed_is_passed_over_by_a_withdrawal_too(folder: FolderStore, settings: Settings) -> None:
    first, second, _ = generations(folder, settings, "abc")
    folder.write(prefix(settings.model, second.release) + WEIGHTS, b"tampered")
    withdraw(folder, settings, WithdrawRequest(generation=3, reason="a picture was removed"))
    assert history(folder, settings.model)[-1].release == first.release


def test_one_whose_own_manifest_is_gone_can_be_left(folder: FolderStore, settings: Settings) -> None:
    _, second, third = generations(folder, settings, "abc")
    folder.delete(prefix(settings.model, third.release) + MANIFEST)
    assert roll_back(folder, settings, RollBackRequest()).release == second.release


def test_a_named_generation_that_is_not_whole_is_not_entered(folder: FolderStore, settings: Settings) -> None:
    first, second, _ = generations(folder, settings, "abc")
    folder.write(prefix(settings.model, first.release) + WEIGHTS, b"tampered")
    folder.delete(prefix(settings.model, second.release) + WEIGHTS)
    with pytest.raises(ReleaseCorrupt):
        roll_back(folder, settings, RollBackRequest(generation=1))
    with pytest.raises(ObjectMissing):
        roll_back(folder, settings, RollBackRequest(generation=2))
    assert len(history(folder, settings.model)) == 3


def test_a_request_that_names_nothing_can_be_tried_again(folder: FolderStore, settings: Settings) -> None:
    generations(folder, settings, "abc")
    request = repeatable(folder, settings, RollBackRequest(actor="ada"))
    assert request == RollBackRequest(actor="ada", leaves=3)
    entry = roll_back(folder, settings, request)
    assert (entry.generation, entry.restores) == (4, 2)
    assert roll_back(folder, settings, request) == entry
    for named in (RollBackRequest(generation=1), RollBackRequest(leaves=2), RollBackRequest(attempt=2)):
        assert repeatable(folder, settings, named) == named


def test_started_again_after_a_crash_it_goes_no_further_back(folder: FolderStore, settings: Settings) -> None:
    generations(folder, settings, "abc")
    entry = roll_back(folder, settings, RollBackRequest())
    assert roll_back(folder, settings, RollBackRequest(attempt=2)) == entry
    assert roll_back(folder, settings, RollBackRequest(leaves=4, attempt=2)).restores == 1, "cut off before its entry"
