"""The verdicts and figures of a check on worlds whose truth is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.core.drift import DriftProfile, fit_profile
from tasks.core.drift.errors import BadEmbeddings
from tests.unit.core.drift.kinds import ENCODER, SPEC, Checker, World, verdicts


@pytest.mark.parametrize("d", [64, 128])
def test_clean_windows_are_stable(run: Checker, d: int) -> None:
    profile = fit_profile(World(d).window(8000), encoder=ENCODER, spec=SPEC)
    world = World(d).seeded(100)
    reports = [run(world.window(300), profile=profile) for _ in range(60)]
    found = verdicts(reports)
    assert found["retrain"] == 0
    assert found["stable"] >= 59
    assert abs(np.mean([report.psi for report in reports])) < 0.015
    assert sum(report.p_value < 0.01 for report in reports) <= 4


@pytest.mark.parametrize(("new", "least"), [(0.4, 20), (0.3, 18), (0.25, 15)])
def test_new_traffic_asks_for_a_retrain(run: Checker, new: float, least: int) -> None:
    world = World().seeded(200)
    reports = [run(world.window(300, new)) for _ in range(20)]
    assert verdicts(reports)["retrain"] >= least
    assert np.median([report.new_traffic_share for report in reports]) == pytest.approx(new, abs=0.04)


def test_the_psi_grows_with_the_share_of_new_traffic(run: Checker) -> None:
    world = World().seeded(300)
    found = [np.median([run(world.window(400, new)).psi for _ in range(10)]) for new in (0, 0.1, 0.2, 0.3, 0.45, 0.6)]
    assert found == sorted(found)


def test_all_traffic_new(run: Checker) -> None:
    report = run(World().seeded(301).window(300, 1.0))
    assert report.verdict == "retrain"
    assert report.new_traffic_share > 0.9
    assert report.histogram[-1] > 0.9, "rows beyond the reference's range must not fall out"


def test_below_the_gate_nothing_is_decided(run: Checker) -> None:
    world = World().seeded(700)
    for n in (0, 1, 2, 7, 50, 199):
        report = run(world.window(n, 1.0))
        assert report.verdict == "insufficient_data"
        assert np.isfinite([report.psi, report.psi_raw, report.n_effective, *report.histogram]).all()
    assert run(world.window(200, 1.0)).verdict == "retrain"


def test_a_small_reference_is_provisional_and_never_retrains(run: Checker, tmp_path: Path) -> None:
    small = fit_profile(World().window(900), encoder=ENCODER, spec=SPEC)
    report = run(World().seeded(933).window(400, 1.0), profile=small)
    assert (small.card.provisional, report.verdict) == (True, "provisional")
    assert report.psi > 1
    assert run(World().window(20), profile=small).verdict == "insufficient_data"


def test_equal_seeds_give_equal_profiles_and_reports(profile: DriftProfile, run: Checker) -> None:
    again = fit_profile(World().window(8000), encoder=ENCODER, spec=SPEC)
    rows = World().seeded(901).window(300, 0.2)
    assert np.array_equal(again.features.precision, profile.features.precision)
    assert run(rows, profile=again) == run(rows)
    other = fit_profile(World().window(8000), encoder=ENCODER, spec=SPEC, seed=1)
    assert not np.array_equal(other.groups, profile.groups)


def test_thresholds_can_be_changed_after_the_fit(profile: DriftProfile, run: Checker) -> None:
    rows = World().seeded(902).window(300, 0.3)
    strict = profile.card.model_copy(update={"spec": SPEC.model_copy(update={"retrain_psi": 2.0})})
    assert run(rows, profile=replace(profile, card=strict)).verdict == "warn"


def test_rows_need_not_be_normalised(run: Checker) -> None:
    rows = World().seeded(801).window(300)
    assert run(rows * 7, np.arange(300)).psi == pytest.approx(run(rows, np.arange(300)).psi, abs=0.02)


def test_chunks_a_memory_map_and_an_array_give_the_same_report(
    profile: DriftProfile, run: Checker, tmp_path: Path
) -> None:
    rows, groups = World().seeded(930).window(20_000, 0.1), np.arange(20_000)
    whole = run(rows, groups)
    np.save(tmp_path / "rows.npy", rows)
    assert run(np.load(tmp_path / "rows.npy", mmap_mode="r"), groups) == whole
    assert run((rows[i : i + 777] for i in range(0, 20_000, 777)), groups) == whole
    chunked = fit_profile(np.array_split(World().window(8000), 9), encoder=ENCODER, spec=SPEC)
    assert np.array_equal(chunked.features.precision, profile.features.precision)
    assert run([], np.zeros(0, np.int64)).verdict == "insufficient_data"
    with pytest.raises(BadEmbeddings, match=r"expected float chunks of shape \[k, 64\], got float32 \[5, 32\]"):
        run([rows[:5], rows[:5, :32]], None)
