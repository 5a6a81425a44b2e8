"""The null distribution: its tail, its tables in the cache, and the variance that folds share."""

import time
from pathlib import Path

import numpy as np
import pytest

from tasks.core.drift import DriftProfile, check
from tasks.core.drift.errors import NullMismatch
from tasks.core.drift.null_distribution import linear_contrast, null_statistics, on_grid, shared_variance
from tests.unit.core.drift.kinds import ENCODER, SPEC, Checker, World


def test_the_null_has_the_exact_tail_and_is_quick(tmp_path: Path) -> None:
    started = time.process_time()
    table = null_statistics(300, 5000, cache=tmp_path)
    assert time.process_time() - started < 3, "about a second when the machine is free"
    assert table.p_value(float("inf")) == 1 / 400_001
    assert table.p_value(float(table.values[-1])) == 2 / 400_001
    assert table.p_value(float(table.values[-3000])) == pytest.approx(3001 / 400_001)
    assert table.p_value(0.0) == 1
    assert table.p_value(table.mean) == pytest.approx(0.45, abs=0.1)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 200_000


def test_the_null_is_cached_and_a_torn_table_is_drawn_again(tmp_path: Path) -> None:
    first = null_statistics(300, 5000, draws=1000, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    again = null_statistics(float(first.n_eff), 5000.7, draws=1000, cache=tmp_path)
    assert np.array_equal(first.values, again.values)
    assert first.mean == again.mean
    for torn in (b"", b"PK\x03\x04 nonsense", path.read_bytes()[:200]):
        path.write_bytes(torn)
        assert null_statistics(300, 5000, draws=1000, cache=tmp_path).mean == first.mean
    assert list(tmp_path.iterdir()) == [path]


def test_the_grid_rounds_down_by_less_than_a_sixteenth() -> None:
    for n in (200, 201, 299.5, 1234, 10**6):
        assert 0.94 * n < on_grid(n) <= n
        assert on_grid(on_grid(n)) == on_grid(n)
    assert on_grid(0.3) == 1


def test_a_table_can_be_given_but_must_fit(profile: DriftProfile, run: Checker) -> None:
    rows = World().seeded(904).window(300)
    fitting = null_statistics(300, len(profile.reference), draws=SPEC.draws)
    assert check(profile, rows, encoder=ENCODER, null=fitting) == run(rows)
    with pytest.raises(NullMismatch):
        check(profile, rows[:250], encoder=ENCODER, null=fitting)


def test_the_null_knows_that_folds_share_directions() -> None:
    assert shared_variance(300, 10**9, 5) == pytest.approx(2, abs=1e-5)
    assert shared_variance(10**9, 300, 5) == pytest.approx(1, abs=1e-5)
    assert shared_variance(300, 2000, 5) == pytest.approx(2.8 / 1.55)
    contrast = linear_contrast(10)
    assert contrast.sum() == pytest.approx(0)
    assert contrast @ contrast == pytest.approx(1)
    assert list(contrast) == sorted(contrast)
