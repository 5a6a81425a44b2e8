"""The monitor on imported logs of simulated visitors, with the embedded encoder."""

from datetime import UTC, datetime, timedelta

import pytest

from infra.base.visitors import FIRST_TASTE, NEW_MOTIFS, NEW_TASTE, log_lines
from tasks.core.config.drift import DriftSpec
from tasks.core.config.installation import Settings
from tasks.core.config.presets import MonitorSpec
from tasks.core.installation import Installation
from tasks.core.models.clip import Clip
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.records import DriftRecord, read_records
from tasks.core.store import FolderStore
from tasks.core.traffic.prompt_log import write_lines
from tests.adire import adire
from tests.shop import promote

SPEC = MonitorSpec(window_hours=24, drift=DriftSpec(draws=20_000, min_effective=100))
SAMPLE = 12


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(adire(), "cpu")


def visit(store: FolderStore, count: int, taste: dict[str, float], days: tuple[float, float], seed: int = 1) -> None:
    """Import a log of `count` lines between two ages in days."""
    start, end = (datetime.now(UTC) - timedelta(days=d) for d in days)
    write_lines(store, "adire", log_lines(count, taste, start, end, seed))


def check(store: FolderStore, settings: Settings, clip: Clip) -> DriftRecord:
    return DriftCheck(Installation(settings, store), adire(), SPEC, clip).run()


def profiles(store: FolderStore) -> dict[str, bytes]:
    return {key: store.read(key) for key in store.list("models/adire/drift/profiles/frozen/")}


@pytest.fixture
def shop(folder: FolderStore) -> FolderStore:
    """A promoted model with enough older traffic of the first taste, none of it in the last day."""
    promote(folder)
    visit(folder, 6000, FIRST_TASTE, (20, 1.01))
    return folder


def test_without_a_champion_there_is_no_reference(folder: FolderStore, settings: Settings, clip: Clip) -> None:
    visit(folder, 300, NEW_TASTE, (0.9, 0))
    record = check(folder, settings, clip)
    assert (record.verdict, record.generation, record.requests) == ("provisional", 0, 300)
    assert "no model has been promoted yet" in record.says
    assert profiles(folder) == {}


@pytest.mark.parametrize("reference", [0, 900])
def test_too_little_reference_is_provisional(
    folder: FolderStore, settings: Settings, clip: Clip, reference: int
) -> None:
    promote(folder)
    visit(folder, reference, FIRST_TASTE, (10, 1.01))
    visit(folder, 300, NEW_TASTE, (0.9, 0), seed=2)
    record = check(folder, settings, clip)
    assert (record.verdict, record.generation, record.fresh) == ("provisional", 1, ())
    assert bool(record.drift) is (reference > 0), "a small reference gives figures but no decision"
    assert record.reference_requests == reference
    assert f"the reference has {reference} requests yet; it needs 2000" in record.says
    assert profiles(folder) == {}


def test_traffic_without_drift_is_stable(shop: FolderStore, settings: Settings, clip: Clip) -> None:
    visit(shop, 500, FIRST_TASTE, (0.9, 0), seed=2)
    record = check(shop, settings, clip)
    assert record.verdict == "stable"
    assert record.drift
    assert abs(record.drift.psi) < 0.1
    assert record.requests == 500
    assert 4000 <= record.reference_requests <= 6000
    assert record.fresh == ()


def test_a_new_taste_gives_the_verdict_retrain_and_its_topics(
    shop: FolderStore, settings: Settings, clip: Clip
) -> None:
    visit(shop, 500, NEW_TASTE, (0.9, 0), seed=2)
    record = check(shop, settings, clip)
    assert record.verdict == "retrain"
    assert record.drift
    assert record.drift.psi > 0.5
    assert record.drift.new_traffic_share > 0.3
    assert "of the traffic is new" in record.says
    assert len(record.fresh) == SAMPLE == len(set(record.fresh))
    fresh = [motif for prompt in record.fresh for motif in NEW_MOTIFS if motif in prompt]
    assert len(fresh) >= 0.8 * SAMPLE
    assert set(fresh) == set(NEW_MOTIFS)


def test_a_small_window_decides_nothing(shop: FolderStore, settings: Settings, clip: Clip) -> None:
    visit(shop, 40, NEW_TASTE, (0.9, 0), seed=2)
    record = check(shop, settings, clip)
    assert record.verdict == "insufficient_data"
    assert "40 requests, worth" in record.says


def test_an_empty_window_decides_nothing(shop: FolderStore, settings: Settings, clip: Clip) -> None:
    record = check(shop, settings, clip)
    assert (record.verdict, record.requests) == ("insufficient_data", 0)


def test_the_profile_is_frozen(shop: FolderStore, settings: Settings, clip: Clip) -> None:
    visit(shop, 500, NEW_TASTE, (0.9, 0), seed=2)
    first, frozen = check(shop, settings, clip), profiles(shop)
    visit(shop, 3000, NEW_TASTE, (15, 1.01), seed=3)  # a late import must not become the reference
    second = check(shop, settings, clip)
    assert len(frozen) == 1
    assert profiles(shop) == frozen
    assert second.reference_requests == first.reference_requests
    assert second.drift == first.drift


def test_a_roll_back_restores_the_older_profile(shop: FolderStore, settings: Settings, clip: Clip) -> None:
    visit(shop, 500, NEW_TASTE, (0.9, 0), seed=2)
    first = check(shop, settings, clip)
    promote(shop, 2)
    promote(shop, 3, restores=1)
    rolled = check(shop, settings, clip)
    assert rolled.generation == 3
    assert rolled.drift == first.drift
    assert len(profiles(shop)) == 1


def test_every_check_is_stored(shop: FolderStore, settings: Settings, clip: Clip) -> None:
    records = [check(shop, settings, clip) for _ in range(2)]
    assert read_records(shop, "adire") == records
    assert all(shop.exists(r.key) for r in records)
    assert records[0].end - records[0].start == timedelta(hours=24)


def test_a_reference_of_too_few_days_is_provisional(folder: FolderStore, settings: Settings, clip: Clip) -> None:
    promote(folder)
    visit(folder, 6000, FIRST_TASTE, (4, 1.01))
    visit(folder, 400, NEW_TASTE, (0.9, 0), seed=2)
    record = check(folder, settings, clip)
    assert record.verdict == "provisional"
    assert "over 168 hours or more" in record.says
    assert profiles(folder) == {}
    visit(folder, 2000, FIRST_TASTE, (9, 4), seed=3)
    assert check(folder, settings, clip).verdict == "retrain"
    assert len(profiles(folder)) == 1
