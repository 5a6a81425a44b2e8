"""States of hours: stored, added up, and never wrong."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tasks.core.drift import DriftProfile, DriftSpec, WindowState, check, fit_profile
from tasks.core.drift.features import FeatureMap, Placed
from tasks.core.drift.rows import Floats, fold_of
from tasks.core.drift.window_state import placed_state
from tasks.core.monitoring.log_cache import Hour, window_state
from tasks.core.monitoring.reference import session_groups
from tasks.core.store import FolderStore
from tasks.core.traffic.prompt_log import PromptLine
from tests.counting_store import CountingStore
from tests.shop import MODEL, NOW, line
from tests.worlds import World

D = 16
START = NOW.replace(minute=0) - timedelta(hours=12)
STATES = f"models/{MODEL}/drift/states/"
SPEC = DriftSpec(clusters=8, draws=20_000, min_reference=1000)
WORLD = World(D, kinds=8, seed=1)


def profile_of(seed: int) -> DriftProfile:
    return fit_profile(WORLD.window(1500, np.random.default_rng(seed)), spec=SPEC, groups=np.arange(1500), encoder="e")


@pytest.fixture(scope="module")
def profile() -> DriftProfile:
    return profile_of(1)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(FolderStore(tmp_path / "store"))


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows placed by each call."""
    calls: list[int] = []
    place = FeatureMap.place

    def counting(self: FeatureMap, rows: Floats) -> Placed:
        calls.append(len(rows))
        return place(self, rows)

    monkeypatch.setattr(FeatureMap, "place", counting)
    return calls


def lines_of(start: datetime, count: int) -> list[PromptLine]:
    """Lines of an hour; sessions go on over the hours."""
    times = [start + timedelta(minutes=k) for k in range(count)]
    return [line(0, f"{time}", session=f"s{k % 30}").model_copy(update={"time": time}) for k, time in enumerate(times)]


class Log:
    """Hours of lines, each with an embedding of its own."""

    def __init__(self, hours: int = 6, count: int = 50) -> None:
        starts = [START + timedelta(hours=h) for h in range(hours)]
        self.hours = [
            Hour(start, lines_of(start, count), whole=k not in (0, hours - 1)) for k, start in enumerate(starts)
        ]
        self.rows = WORLD.window(hours * count, np.random.default_rng(7), new=0.2)

    @property
    def lines(self) -> list[PromptLine]:
        return [line for hour in self.hours for line in hour.lines]

    def state(self, store: CountingStore, profile: DriftProfile) -> WindowState:
        return window_state(store, MODEL, profile, self.hours, self.rows, session_groups(self.lines))

    def whole(self, profile: DriftProfile) -> WindowState:
        """The state of all rows, counted at once."""
        folds = profile.card.spec.folds
        fold = fold_of(session_groups(self.lines), folds)
        empty = WindowState.empty(profile.features, folds)
        return placed_state(profile.features.place(self.rows), fold, empty)

    def without_the_first_hours(self, count: int) -> "Log":
        shorter = Log()
        shorter.hours = self.hours[count:]
        shorter.rows = self.rows[sum(len(hour.lines) for hour in self.hours[:count]) :]
        return shorter

    def with_a_late_line(self, hour: int) -> "Log":
        """One more line at the end of an hour, with the vector of the first row."""
        changed = Log()
        old = self.hours[hour]
        late = line(0, "late").model_copy(update={"time": old.start + timedelta(minutes=59)})
        changed.hours[hour] = Hour(old.start, [*old.lines, late], old.whole)
        place = sum(len(one.lines) for one in changed.hours[: hour + 1]) - 1
        changed.rows = np.insert(self.rows, place, self.rows[0], axis=0)
        return changed


def same(one: WindowState, other: WindowState) -> bool:
    return np.array_equal(one.counts, other.counts) and np.allclose(one.sums, other.sums, rtol=0, atol=1e-9)


def test_the_states_add_up_to_that_of_the_window(store: CountingStore, profile: DriftProfile) -> None:
    log = Log()
    for _ in range(2):
        assert same(log.state(store, profile), log.whole(profile))


def test_an_empty_window_has_an_empty_state(store: CountingStore, profile: DriftProfile) -> None:
    log = Log()
    log.hours, log.rows = [], np.zeros((0, D), np.float32)
    assert same(log.state(store, profile), WindowState.empty(profile.features, SPEC.folds))


def test_whole_hours_are_placed_once(store: CountingStore, profile: DriftProfile, placed: list[int]) -> None:
    log = Log()
    log.state(store, profile)
    assert placed == [50] * 6
    assert len(store.keys["write"]) == len(list(store.list(STATES))) == 4, "the first and the last hour are not whole"
    placed.clear()
    store.forget()
    log.state(store, profile)
    assert placed == [50] * 2
    assert store.keys["write"] == []


def test_a_late_line_makes_another_state_of_its_hour(
    store: CountingStore, profile: DriftProfile, placed: list[int]
) -> None:
    log = Log()
    before = log.state(store, profile)
    placed.clear()
    late = log.with_a_late_line(2)
    after = late.state(store, profile)
    assert placed == [50, 51, 50]
    assert after.counts.sum() == before.counts.sum() + 1
    assert same(after, late.whole(profile))
    assert len(list(store.list(STATES))) == 4, "the hour's old state is dropped"


def test_states_outside_the_window_are_dropped(store: CountingStore, profile: DriftProfile) -> None:
    log = Log()
    log.state(store, profile)
    before = set(store.list(STATES))
    later = log.without_the_first_hours(3)
    assert same(later.state(store, profile), later.whole(profile))
    after = set(store.list(STATES))
    assert len(after) == 2
    assert after < before


def test_profiles_share_no_states_and_old_ones_are_deleted(store: CountingStore, profile: DriftProfile) -> None:
    log, other = Log(), profile_of(2)
    log.state(store, profile)
    assert same(log.state(store, other), log.whole(other))
    stored = list(store.list(STATES))
    assert len(stored) == 4
    assert all(other.digest in key for key in stored)
    assert same(log.state(store, profile), log.whole(profile))


def test_models_keep_their_own_states(store: CountingStore, profile: DriftProfile) -> None:
    log = Log()
    log.state(store, profile)
    window_state(store, "another", profile, [], np.zeros((0, D), np.float32), np.zeros(0, np.int64))
    assert len(list(store.list(STATES))) == 4


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "foreign"])
def test_a_damaged_state_is_recomputed(store: CountingStore, profile: DriftProfile, damage: str) -> None:
    log = Log()
    first = log.state(store, profile)
    key = list(store.list(STATES))[1]
    good = store.read(key)
    smaller = WindowState(np.ones((2, 2), np.int64), np.ones((2, 2, 3))).to_bytes()
    store.write(key, {"empty": b"", "cut": good[:-9], "text": b"no safetensors", "foreign": smaller}[damage])
    assert same(log.state(store, profile), first)
    assert store.read(key) == good


def test_a_check_with_states_reports_what_it_reports_without(store: CountingStore, profile: DriftProfile) -> None:
    log = Log(hours=8)
    log.rows = WORLD.window(len(log.lines), np.random.default_rng(8), new=0.3)
    groups = session_groups(log.lines)
    groups[:40] = 1  # more than the cap: these rows are subtracted from the state
    plain = check(profile, log.rows, groups=groups, encoder="e")
    for _ in range(2):
        state = window_state(store, MODEL, profile, log.hours, log.rows, groups)
        assert check(profile, log.rows, groups=groups, encoder="e", state=state) == plain
    assert plain.n < len(log.rows)
    assert plain.verdict == "retrain"
