"""Rows that are damaged, constant or of another shape or encoder: refused by name, or harmless."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.core.drift import DriftProfile, WindowState, check, explain, fit_profile
from tasks.core.drift.errors import BadEmbeddings, EncoderMismatch, ProfileUnusable, StateUnusable
from tasks.core.drift.rows import constant_columns
from tests.unit.core.drift.kinds import ENCODER, SPEC, Checker, Floats, World

HALF = -6e-8  # the smallest number of half precision: what is left of a column that should be zero


def test_degenerate_windows_do_not_crash(run: Checker) -> None:
    same = np.repeat(World().window(1), 300, axis=0)
    assert run(same).verdict == "insufficient_data", "one text is one group, and capped"
    assert run(same, np.arange(300)).verdict == "insufficient_data", "from however many visitors"
    few = World().window(9)[np.arange(450) % 9]
    assert run(few, np.arange(450)).verdict == "insufficient_data", "nine texts in ten bins"
    for value in (0.1, 0.0):
        constant = World().seeded(701).window(300)
        constant[:, 3:5] = value
        with pytest.raises(BadEmbeddings, match="column 3 is constant in the window and not in the reference"):
            run(constant)


@pytest.mark.parametrize("noise", [0.0, HALF])
@pytest.mark.parametrize("other", [0.0, HALF, 1e-7])
def test_a_column_of_noise_is_constant_whatever_noise_it_holds(run: Checker, noise: float, other: float) -> None:
    reference, window = World().window(2500), World().seeded(702).window(300)
    reference[:, 5] = np.where(np.arange(2500) % 2, 0.0, noise)
    window[:, 5] = np.where(np.arange(300) % 3, 0.0, other)
    found = fit_profile(reference, encoder=ENCODER, spec=SPEC)
    assert np.flatnonzero(found.constant).tolist() == [5]
    assert run(window, profile=found).verdict == "stable"
    frozen_earlier = replace(found, constant=np.zeros_like(found.constant))
    assert run(window, profile=frozen_earlier).verdict == "stable"
    with pytest.raises(BadEmbeddings, match="column 5 is constant in the reference and not in the window"):
        run(World().window(300), profile=found)
    window[:, 6] = np.where(np.arange(300) % 2, 0.0, noise)
    with pytest.raises(BadEmbeddings, match="column 6 is constant in the window and not in the reference"):
        run(window, profile=found)


def test_what_is_constant_is_a_millionth_of_what_is_usual_in_any_unit() -> None:
    rows = np.random.default_rng(1).normal(size=(5000, 8))
    rows[:, 2], rows[:, 4] = 7.0, 0.5 + 1e-8 * rows[:, 4]
    rows[:, 6] *= 1e-4
    everything = np.arange(len(rows))
    for unit in (1e-6, 1.0, 1e6):
        assert np.flatnonzero(constant_columns(unit * rows, everything)).tolist() == [2, 4]
    assert constant_columns(np.full((9, 3), 0.1), np.arange(9)).tolist() == [True] * 3
    assert constant_columns(rows, everything[:1]).tolist() == constant_columns(rows, everything[:0]).tolist()
    assert not constant_columns(rows, everything[:1]).any()


@pytest.mark.parametrize("value", [0.1, np.nan, np.inf, 0.0])
def test_a_window_whose_columns_are_all_constant_decides_nothing(run: Checker, value: float) -> None:
    window = np.full((300, 64), value, dtype=np.float32)
    if value == 0.1:
        assert run(window).verdict == "insufficient_data", "one text, three hundred times"
    else:
        with pytest.raises(BadEmbeddings, match=r"current: holds rows with (NaN|Inf|only zeros), the first is row 0"):
            run(window)


def test_damaged_numbers_never_ask_for_a_retrain(profile: DriftProfile, run: Checker, tmp_path: Path) -> None:
    precision = profile.features.precision.copy()
    precision[3, 3] = np.nan
    broken = replace(profile, features=replace(profile.features, precision=precision))
    with pytest.raises(BadEmbeddings, match="profile: gives scores that are not finite"):
        run(World().seeded(702).window(300), profile=broken)
    broken.save(tmp_path / "broken")
    with pytest.raises(ProfileUnusable, match="non-finite"):
        DriftProfile.load(tmp_path / "broken")
    state = WindowState.empty(profile.features, 5)
    state.counts[0, 0], state.sums[0, 0, 0] = 1, np.nan
    with pytest.raises(StateUnusable, match="non-finite"):
        WindowState.from_bytes(state.to_bytes(), state)


@pytest.mark.parametrize("odd", [None, 3.0, "rows", np.zeros(0), np.zeros((300, 64), dtype=np.longdouble)])
def test_what_is_no_matrix_is_refused(run: Checker, odd: object) -> None:
    if isinstance(odd, np.ndarray) and not len(odd):
        assert run(odd).verdict == "insufficient_data"
        return
    with pytest.raises(BadEmbeddings):
        run(odd)


def _spoiled(value: float) -> Floats:
    rows = World().seeded(800).window(300)
    rows[[3, 9]] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (_spoiled(np.nan), r"current: holds rows with NaN, the first is row 3 \(2 bad rows\)"),
        (_spoiled(np.inf), "Inf, the first is row 3"),
        (_spoiled(0.0), "only zeros, the first is row 3"),
        (World(32).window(300), "expected dimension 64, got 32"),
        (np.zeros(64, dtype=np.float32), "expected a float array"),
        (np.ones((300, 64), dtype=np.int64), "expected a float array"),
    ],
)
def test_bad_embeddings_are_refused(profile: DriftProfile, run: Checker, rows: Floats, message: str) -> None:
    with pytest.raises(BadEmbeddings, match=message):
        run(rows)
    with pytest.raises(BadEmbeddings, match=message):
        explain(profile, rows, ["x"] * len(rows))


def test_bad_groups_and_blocks_are_refused(run: Checker) -> None:
    rows = World().window(2500)
    with pytest.raises(BadEmbeddings, match=r"groups: expected integers of shape \[300\]"):
        run(rows[:300], np.arange(299))
    with pytest.raises(BadEmbeddings, match="blocks: expected integers"):
        fit_profile(rows, encoder=ENCODER, blocks=np.linspace(0, 1, 2500), spec=SPEC)
    with pytest.raises(BadEmbeddings, match="reference: "):
        fit_profile(_spoiled(np.nan), encoder=ENCODER, spec=SPEC)


def test_another_encoder_is_refused(profile: DriftProfile) -> None:
    with pytest.raises(EncoderMismatch, match="sha256:encoder"):
        check(profile, World().window(300), encoder="sha256:other")
