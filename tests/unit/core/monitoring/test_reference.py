"""References: frozen once, pinned, distinguished by their encoder, embedded again."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.base.visitors import FIRST_TASTE, NEW_TASTE
from tasks.core import clock
from tasks.core.config.installation import Settings
from tasks.core.drift.errors import ProfileUnusable, ReferenceTooSmall
from tasks.core.errors import ProfileMissing, ReferenceForeign
from tasks.core.installation import Installation
from tasks.core.models.clip import Clip
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.records import DriftRecord
from tasks.core.monitoring.reference import (
    ReferenceRecord,
    load_profile,
    pin_profile,
    read_pin,
    reference_records,
    refit,
)
from tasks.core.registry.ledger import history
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.shop import MODEL, NOW, SPEC, CountingClip, TurnedClip, ago, promote, visit


@pytest.fixture(scope="module")
def clip() -> CountingClip:
    return CountingClip(adire())


@pytest.fixture(autouse=True)
def fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.fixture
def shop(folder: FolderStore) -> FolderStore:
    """Generation 1 with a reference's worth of traffic, and a day of the same."""
    promote(folder)
    visit(folder, 1300, FIRST_TASTE, (240, 24.1))
    visit(folder, 200, FIRST_TASTE, (23.9, 0), seed=2)
    return folder


def run(store: FolderStore, settings: Settings, clip: Clip) -> DriftRecord:
    return DriftCheck(Installation(settings, store), adire(), SPEC, clip).run()


def again(store: FolderStore, settings: Settings, clip: Clip) -> ReferenceRecord:
    """The command `refit`."""
    monitor = DriftCheck(Installation(settings, store), adire(), SPEC, clip)
    return refit(store, MODEL, SPEC, monitor.cache, clip.encode_texts, history(store, MODEL))


def test_a_reference_is_frozen_with_all_that_identifies_it(shop: FolderStore, settings: Settings, clip: Clip) -> None:
    record = run(shop, settings, clip)
    (frozen,) = reference_records(shop, MODEL)
    assert (frozen.generation, frozen.encoder, frozen.rows) == (1, clip.hash, record.reference_requests)
    assert ago(240) <= frozen.begin < frozen.end == ago(24)
    card = load_profile(shop, frozen).card
    assert (card.rows_a + card.rows_b, card.phi, card.encoder) == (frozen.rows, frozen.phi, clip.hash)


def test_concurrent_monitors_freeze_one_reference(
    shop: FolderStore, settings: Settings, clip: Clip, tmp_path: Path
) -> None:
    machines = [settings.model_copy(update={"cache": tmp_path / f"machine-{k}"}) for k in range(2)]
    with ThreadPoolExecutor(2) as pool:
        records = list(pool.map(lambda machine: run(shop, machine, clip), machines))
    assert len(reference_records(shop, MODEL)) == 1
    assert records[0].drift == records[1].drift


def test_the_first_monitor_wins(shop: FolderStore, settings: Settings, clip: Clip) -> None:
    slow = DriftCheck(Installation(settings, shop), adire(), SPEC, clip)
    assert slow.window.lines
    visit(shop, 300, NEW_TASTE, (100, 30), seed=3)
    fast = DriftCheck(Installation(settings, shop), adire(), SPEC, clip)
    assert fast.run().drift == slow.run().drift
    assert len(reference_records(shop, MODEL)) == 1


def test_a_provisional_reference_is_not_frozen(folder: FolderStore, settings: Settings, clip: Clip) -> None:
    promote(folder)
    visit(folder, 500, FIRST_TASTE, (240, 24.1))
    visit(folder, 200, NEW_TASTE, (23.9, 0), seed=2)
    record = run(folder, settings, clip)
    assert (record.verdict, record.reference_requests) == ("provisional", 500)
    assert list(folder.list(f"models/{MODEL}/drift/profiles/")) == []
    visit(folder, 800, FIRST_TASTE, (240, 24.1), seed=3)
    assert run(folder, settings, clip).verdict == "retrain"
    assert [frozen.generation for frozen in reference_records(folder, MODEL)] == [1]


@pytest.fixture
def two(shop: FolderStore, settings: Settings, clip: Clip) -> FolderStore:
    """Generation 1 has a reference of the first taste, generation 2 of the newest traffic; both are frozen."""
    run(shop, settings, clip)
    visit(shop, 1100, NEW_TASTE, (100, 24.1), seed=4)
    visit(shop, 200, NEW_TASTE, (23.9, 0), seed=5)
    promote(shop, 2, since=ago(100))
    return shop


def test_a_pin_compares_with_an_older_reference_until_it_is_removed(
    two: FolderStore, settings: Settings, clip: Clip
) -> None:
    free = run(two, settings, clip)
    assert (free.generation, free.reference_generation) == (2, 2)
    pin_profile(two, MODEL, 1, "ada", "the show")
    pinned = run(two, settings, clip)
    assert (pinned.generation, pinned.reference_generation) == (2, 1)
    assert pinned.drift
    assert free.drift
    assert pinned.drift.psi > free.drift.psi + 0.1
    pin = read_pin(two, MODEL)
    assert pin
    assert (pin.generation, pin.actor, pin.reason, pin.time) == (1, "ada", "the show", NOW)
    pin_profile(two, MODEL, 0, "ada", "over")
    assert read_pin(two, MODEL) is None
    assert run(two, settings, clip).drift == free.drift


def test_only_a_frozen_reference_can_be_pinned(two: FolderStore) -> None:
    for unknown in (2, 7, -1):
        with pytest.raises(ProfileMissing, match=f"no drift reference of generation {unknown}; see"):
            pin_profile(two, MODEL, unknown, "ada", "")
    assert read_pin(two, MODEL) is None


def test_another_encoder_is_rejected_until_a_refit(shop: FolderStore, settings: Settings, clip: CountingClip) -> None:
    before = run(shop, settings, clip)
    other = TurnedClip(clip)
    with pytest.raises(ReferenceForeign, match=r"the model's scorer is turned-1: run .*refit"):
        run(shop, settings, other)
    with pytest.raises(ReferenceForeign):
        DriftCheck(Installation(settings, shop), adire(), SPEC, other).new_prompts()
    made = again(shop, settings, other)
    old = reference_records(shop, MODEL)[0]
    assert (made.encoder, made.begin, made.end, made.rows) == ("turned-1", old.begin, old.end, old.rows)
    after = run(shop, settings, other)
    assert (after.verdict, after.reference_requests) == (before.verdict, before.reference_requests)
    assert run(shop, settings, clip).drift == before.drift, "the settings can be set back"


def test_a_refit_uses_the_period_of_the_old_reference(
    shop: FolderStore, settings: Settings, clip: CountingClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(shop, settings, clip)
    monkeypatch.setattr(clock, "now", lambda: ago(-100))
    visit(shop, 500, NEW_TASTE, (20, -90), seed=6)
    made = again(shop, settings, TurnedClip(clip))
    assert made.end == ago(24)
    assert not any("moons" in text for text in load_profile(shop, made).texts)


def test_a_refit_with_the_same_encoder_changes_nothing(shop: FolderStore, settings: Settings, clip: Clip) -> None:
    run(shop, settings, clip)
    before = reference_records(shop, MODEL)
    assert [again(shop, settings, clip)] == before == reference_records(shop, MODEL)


@pytest.mark.parametrize("promoted", [False, True])
def test_a_refit_without_a_frozen_reference_fails(
    folder: FolderStore, settings: Settings, clip: Clip, promoted: bool
) -> None:
    if promoted:
        promote(folder)
    with pytest.raises(ProfileMissing, match=f"generation {int(promoted)}"):
        again(folder, settings, clip)


def test_a_refit_needs_the_log_of_the_reference(shop: FolderStore, settings: Settings, clip: CountingClip) -> None:
    run(shop, settings, clip)
    for key in list(shop.list(f"prompts/{MODEL}/")):
        shop.delete(key)
    with pytest.raises(ReferenceTooSmall, match="1000 are needed"):
        again(shop, settings, TurnedClip(clip))
    assert len(reference_records(shop, MODEL)) == 1


def test_a_refit_is_of_the_pinned_reference(two: FolderStore, settings: Settings, clip: CountingClip) -> None:
    run(two, settings, clip)
    pin_profile(two, MODEL, 1, "ada", "the show")
    other = TurnedClip(clip)
    assert again(two, settings, other).generation == 1
    assert run(two, settings, other).reference_generation == 1
    pin_profile(two, MODEL, 0, "ada", "over")
    with pytest.raises(ReferenceForeign):
        run(two, settings, other)


def test_damaged_arrays_are_reported_and_repaired_by_a_refit(shop: FolderStore, settings: Settings, clip: Clip) -> None:
    before = run(shop, settings, clip)
    arrays = reference_records(shop, MODEL)[0].arrays
    shop.write(arrays, b"damaged")
    with pytest.raises(ProfileUnusable, match=f"drift profile {arrays} cannot be used: .*; fit it again"):
        run(shop, settings, clip)
    again(shop, settings, clip)
    assert run(shop, settings, clip).drift == before.drift


def test_each_prompt_is_encoded_once(shop: FolderStore, settings: Settings, tmp_path: Path) -> None:
    counting = CountingClip(adire())
    for k in range(3):
        run(shop, settings.model_copy(update={"cache": tmp_path / f"machine-{k}"}), counting)
    assert set(counting.asked.values()) == {1}


def test_new_prompts_are_known_before_a_check_embeds_them(shop: FolderStore, settings: Settings) -> None:
    counting = CountingClip(adire())
    monitor = DriftCheck(Installation(settings, shop), adire(), SPEC, counting)
    new = monitor.new_prompts()
    monitor.run()
    assert {text for some in new.values() for text in some} == set(counting.asked)
    assert DriftCheck(Installation(settings, shop), adire(), SPEC, counting).new_prompts() == {}
