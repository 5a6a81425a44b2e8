"""Window states: they add up by the hour, give the report of the whole, and are refused when damaged."""

from pathlib import Path

import numpy as np
import pytest

from tasks.core.drift import DriftProfile, WindowState, check
from tasks.core.drift.errors import StateUnusable
from tasks.core.drift.rows import fold_of
from tasks.core.drift.window_state import placed_state
from tests.unit.core.drift.kinds import ENCODER, Checker, World


def test_hourly_states_add_up_in_any_order(profile: DriftProfile) -> None:
    world = World().seeded(931)
    rows, groups = world.window(2400, 0.1), np.arange(2400) // 2
    fold, features = fold_of(groups, 5), profile.features
    empty = WindowState.empty(features, 5)
    hours = [np.arange(h * 100, (h + 1) * 100) for h in range(24)]
    states = [placed_state(features.place(rows[hour]), fold[hour], empty) for hour in hours]
    whole = placed_state(features.place(rows), fold, empty)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(24)
        merged = sum((states[i] for i in order), WindowState.empty(features, 5))
        assert np.array_equal(merged.counts, whole.counts)
        assert np.abs(merged.sums - whole.sums).max() < 1e-5
    back = merged - states[3] + states[3]
    assert np.array_equal(back.counts, whole.counts)
    again = WindowState.from_bytes(states[0].to_bytes(), whole)
    assert np.array_equal(again.counts, states[0].counts)
    assert np.array_equal(again.sums, states[0].sums)


def test_a_known_state_gives_the_report_of_the_whole(profile: DriftProfile, run: Checker, tmp_path: Path) -> None:
    world = World().seeded(932)
    rows = np.concatenate([world.window(300, 0.2), world.window(100, 1.0)])
    groups = np.concatenate([np.arange(300), np.full(100, 9999)])  # one visitor is over the cap
    empty = WindowState.empty(profile.features, 5)
    known = placed_state(profile.features.place(rows), fold_of(groups, 5), empty)
    report = check(profile, rows, groups=groups, encoder=ENCODER, state=known, null_cache=tmp_path)
    whole = run(rows, groups)
    assert (report.n, report.verdict) == (whole.n, whole.verdict) == (320, whole.verdict)
    assert report.psi == pytest.approx(whole.psi, abs=1e-9)


def test_damaged_and_foreign_states_are_refused(profile: DriftProfile) -> None:
    empty = WindowState.empty(profile.features, 5)
    for data in (b"", b"nonsense", WindowState.empty(profile.features, 6).to_bytes()):
        with pytest.raises(StateUnusable, match="delete it"):
            WindowState.from_bytes(data, empty)
