"""False alarm rate and power of the drift detector, on smaller versions of the benchmark's simulations."""

import numpy as np
import pytest

from tasks.core.drift import DriftSpec
from tests.bench_drift import Bench, false_alarms, power
from tests.bench_drift_streams import delays, dependence, month
from tests.bench_table import Row, Table
from tests.worlds import World

WINDOWS = 80


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("null"), DriftSpec(draws=20_000))


@pytest.fixture(scope="module")
def quiet(bench: Bench) -> Table:
    return false_alarms(bench, WINDOWS, seeds=(1,))


def line(table: Table, **wanted: str | float) -> Row:
    return next(row for row in table if wanted.items() <= row.items())


def test_the_world_is_a_cone_and_plants_exactly_what_is_configured() -> None:
    world, rng = World(seed=1), np.random.default_rng(0)
    rows = world.window(1000, rng)
    assert 0.55 < float(np.mean(rows[:500] @ rows[500:].T)) < 0.75
    nearest = np.argmax(world.window(400, rng, 0.25) @ world.centres.T.astype(np.float32), axis=1)
    assert np.count_nonzero(nearest >= world.kinds) == 100


def test_a_stream_repeats_prompts_within_sessions_and_keeps_its_rate() -> None:
    rows, sessions, hour = World(64, seed=1).hours(480, np.random.default_rng(0))
    assert len(rows) == pytest.approx(480 * 60, rel=0.02)
    assert np.all(np.diff(hour) >= 0)
    same = sessions[1:] == sessions[:-1]
    repeated = np.all(rows[1:] == rows[:-1], axis=1)
    assert 0.7 < same.mean() < 0.8
    assert 0.3 < repeated[same].mean() < 0.4
    assert not repeated[~same].any()


@pytest.mark.parametrize(
    ("traffic", "groups"),
    [
        ("independent", "none"),
        ("one prompt a quarter", "a visitor a row"),
        ("one prompt a quarter", "none"),
    ],
)
def test_clean_windows_rarely_have_a_small_p_and_never_give_the_verdict_retrain(
    quiet: Table, traffic: str, groups: str
) -> None:
    found = line(quiet, traffic=traffic, groups=groups)
    assert found["retrain"] == 0
    assert float(found["p<0.05"]) <= 0.15, "5 % and four standard errors of 80 windows"
    assert float(found["p<0.001"]) <= 0.025, "two windows"
    assert abs(float(found["mean PSI"])) < 0.015


@pytest.mark.parametrize("groups", ["none", "a visitor a row"])
def test_ten_popular_prompts_are_no_drift(quiet: Table, groups: str) -> None:
    found = line(quiet, traffic="ten prompts 6 % each", groups=groups)
    assert found["retrain"] == 0
    assert float(found["warn"]) <= 0.1


@pytest.mark.parametrize(("seed", "new"), [(1, 3), (2, 1), (3, 6)])
def test_the_psi_matches_the_share_of_new_traffic(bench: Bench, seed: int, new: int) -> None:
    table = power(bench, 20, worlds=[(seed, new)])
    for row in table:
        assert float(row["mean PSI"]) == pytest.approx(float(row["closed form"]), rel=0.15, abs=0.02)
    retrain = {row["new traffic"]: float(row["retrain"]) for row in table}
    assert retrain[0.1] == 0
    assert retrain[0.25] >= 0.95
    assert retrain[0.4] == 1
    assert float(line(table, **{"new traffic": 0.2})["warn or retrain"]) >= 0.95


def test_days_of_sessions_are_no_drift(bench: Bench) -> None:
    blind, grouped = dependence(bench, 30, seeds=(1,))
    assert float(blind["retrain"]) <= 1 / 30
    assert float(grouped["retrain"]) == 0
    assert 1.5 < float(grouped["phi"]) < 5
    assert float(grouped["p<0.05"]) <= 0.25, "phi is itself an estimate, from ten days"


def test_hourly_checks_of_the_trailing_day_raise_no_alarm(bench: Bench) -> None:
    assert month(bench, checks=96)["retrain"] == 0


def test_a_shift_of_a_quarter_is_found_within_a_day(bench: Bench) -> None:
    table = delays(bench, seeds=(1, 2), shares=(0.25,))
    assert [row for row in table if not 6 <= float(row["hours"]) <= 24] == []
