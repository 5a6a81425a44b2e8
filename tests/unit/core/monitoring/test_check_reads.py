"""What one check lists and reads of the store, from its new prompts to its pages."""

from collections import Counter
from pathlib import Path

import pytest

from infra.base.visitors import FIRST_TASTE, NEW_TASTE
from tasks.core.config.installation import Settings
from tasks.core.installation import Installation
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.records import DriftRecord
from tasks.core.reporting.drift_report import write_pages
from tasks.core.retraining.decisions import make_decision
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.counting_store import CountingStore
from tests.shop import MODEL, NOW, SPEC, CountingClip, ago, promote, visit

END = NOW.replace(minute=0)  # a whole hour, so that the window and the reference share none
EVERY_PAGE = SPEC.model_copy(update={"evidently": "always"})


@pytest.fixture(scope="module")
def clip() -> CountingClip:
    return CountingClip(adire())


@pytest.fixture
def shop(settings: Settings, tmp_path: Path) -> CountingStore:
    """Generation 1 with a reference's worth of traffic, and a day of a new taste."""
    store = CountingStore(FolderStore(tmp_path / "store"))
    promote(store)
    visit(store, 1300, FIRST_TASTE, (240, 24.6))
    visit(store, 300, NEW_TASTE, (24.4, 0.6), seed=2)
    return store


def steps(check: DriftCheck) -> DriftRecord:
    """The steps of the flow monitor-drift, which share the check."""
    check.cache.add(check.new_prompts(), check.clip.encode_texts)
    record = check.run()
    decision = make_decision("drift", record.time, ("retrain", "it drifted"), record.key)
    assert len(write_pages(check, record, decision)) == 2, "Evidently's page needs the window and the reference"
    return record


def times(keys: list[str], *prefixes: str) -> Counter[str]:
    """How often each key that starts with one of the prefixes is there."""
    return Counter(key for key in keys if key.startswith(prefixes))


def test_a_check_lists_the_hours_and_reads_the_reference_once(
    shop: CountingStore, settings: Settings, clip: CountingClip
) -> None:
    first = steps(DriftCheck(Installation(settings, shop), adire(), EVERY_PAGE, clip, END))
    shop.forget()
    check = DriftCheck(Installation(settings, shop), adire(), EVERY_PAGE, clip, END)
    record = steps(check)
    assert (record.verdict, record.drift) == ("retrain", first.drift)
    days = [f"prompts/{MODEL}/dt={ago(hours):%Y-%m-%d}/" for hours in (24, 0)]
    assert times(shop.keys["list"], f"prompts/{MODEL}/") == dict.fromkeys(days, 1), "the days that a window may meet"
    hours = times(shop.keys["read"], f"models/{MODEL}/drift/hours/")
    assert len(hours) == len(check.window.hours) >= 20
    assert set(hours.values()) == {1}
    assert list(times(shop.keys["read"], f"models/{MODEL}/drift/profiles/arrays/").values()) == [1]


def test_the_check_that_freezes_the_reference_reads_its_log_once(
    shop: CountingStore, settings: Settings, clip: CountingClip
) -> None:
    shop.forget()
    check = DriftCheck(Installation(settings, shop), adire(), EVERY_PAGE, clip, END)
    assert steps(check).verdict == "retrain"
    listed = times(shop.keys["list"], f"prompts/{MODEL}/")
    assert listed.pop(f"prompts/{MODEL}/dt=2026-03") == 1, "the reference's month"
    assert listed.pop(f"prompts/{MODEL}/") == 1, "the folders of days"
    assert (len(listed), set(listed.values())) == (2, {1}), "the window's days"
    read = times(
        shop.keys["read"],
        f"models/{MODEL}/drift/hours/",
        f"prompts/{MODEL}/",
        f"models/{MODEL}/drift/profiles/pin.json",
    )
    assert len(read) > 2 * len(check.window.hours)
    assert set(read.values()) == {1}
    assert not times(shop.keys["read"], f"models/{MODEL}/drift/profiles/arrays/"), "what was just fitted is at hand"
