"""What a check costs in requests does not depend on how much log, how many checks and decisions are behind it."""

from datetime import timedelta
from pathlib import Path

import pytest

from infra.base.visitors import FIRST_TASTE, NEW_TASTE
from tasks.core import clock
from tasks.core.config.installation import Settings
from tasks.core.installation import Installation
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.records import report_key
from tasks.core.reporting.drift_report import drawings, write_metrics, write_pages
from tasks.core.retraining.causes import decide_on_drift
from tasks.core.retraining.decisions import make_decision, record_decision
from tasks.core.store import FolderStore, Store
from tasks.core.store.documents import render
from tasks.core.traffic.prompt_log import write_lines
from tests.adire import adire
from tests.counting_store import CountingStore
from tests.ring_store import record
from tests.shop import MODEL, NOW, SPEC, CountingClip, ago, line, promote, visit

WINDOW = 6  # hours
SHORT = SPEC.model_copy(update={"window_hours": WINDOW, "evidently": "never"})


@pytest.fixture(scope="module")
def clip() -> CountingClip:
    return CountingClip(adire())


def history(store: Store, hours: int) -> None:
    """So many hours of log, each with a check and a decision; the last ones have the traffic of a reference."""
    promote(store)
    visit(store, 1300, FIRST_TASTE, (WINDOW + 4, WINDOW + 0.1))
    visit(store, 300, NEW_TASTE, (WINDOW - 0.1, 0.1), seed=2)
    write_lines(store, MODEL, [line(hour) for hour in range(WINDOW + 5, hours)])
    for hour in range(hours, 0, -1):
        past = record().model_copy(update={"key": report_key(MODEL, ago(hour)), "time": ago(hour)})
        store.write(past.key, render(past))
        record_decision(store, MODEL, make_decision("drift", ago(hour), ("declined", "cool-down"), past.key))


def run(store: Store, settings: Settings, clip: CountingClip, minutes: float) -> None:
    """All that the flow monitor-drift does with the store."""
    installation = Installation(settings, store)
    check = DriftCheck(installation, adire(), SHORT, clip, NOW + timedelta(minutes=minutes))
    check.cache.add(check.new_prompts(), clip.encode_texts)
    found = check.run()
    assert found.verdict == "retrain"
    decision = decide_on_drift(store, adire(), found, adire().preset.policy)
    write_metrics(check, found)
    write_pages(check, found, decision)
    assert drawings(check, found)


def requests(hours: int, place: Path, clip: CountingClip) -> tuple[int, dict[str, int]]:
    """The requests of a check after so many hours, and the embeddings it loads."""
    store = FolderStore(place / "store")
    settings = Settings(cache=place / "cache", store=str(place / "store"))
    history(store, hours)
    run(store, settings, clip, 0)  # freezes the reference, and makes what a store of an earlier version lacks
    counting = CountingStore(store)
    run(counting, settings, clip, 10)
    return sum(counting.requests.values()), dict(counting.requests)


def test_a_check_costs_the_same_after_ten_hours_and_after_a_thousand(
    tmp_path: Path, clip: CountingClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    few, many = (requests(hours, tmp_path / str(hours), clip) for hours in (10, 1000))
    assert few[0] == pytest.approx(many[0], rel=0.1), (few[1], many[1])
    assert many[0] < 80, many[1]
