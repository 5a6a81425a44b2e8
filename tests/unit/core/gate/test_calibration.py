"""A model against itself: the simulated noise is estimated, and equal models pass at the proposed margins."""

from math import sqrt

import numpy as np
import pytest
import yaml

from tasks.core.config.presets import GateSpec, Margins, Preset
from tasks.core.errors import CalibrationImpossible
from tasks.core.gate.calibration import LEAST, Calibration, Noise, propose
from tasks.core.gate.statistics import MEASURES, Measure, Scores
from tests.gates import Pair, World, calibrated

SPEC = GateSpec(resamples=2000)
SAME = World(prompts=60, noise=0.03, lasting=0.0)


def runs(world: World = SAME, seed: int = 0) -> tuple[Scores, Scores]:
    return Pair(world, np.random.default_rng(seed)).scores()


def of(found: Calibration, measure: Measure) -> Noise:
    return next(noise for noise in found.noises if noise.measure == measure)


def slower(scores: Scores, times: float) -> Scores:
    return scores | {"render_seconds": {p: tuple(times * v for v in vs) for p, vs in scores["render_seconds"].items()}}


def test_the_simulated_noise_is_recovered() -> None:
    found = propose(*runs(World(prompts=2000, noise=0.03, lasting=0.0)), SPEC)
    assert [noise.measure for noise in found.noises] == list(MEASURES)
    for noise in found.noises:
        assert noise.deviation == pytest.approx(0.03, rel=0.1)
        assert noise.error == pytest.approx(0.03 / sqrt(2000), rel=0.1)
        assert noise.high - noise.low == pytest.approx(4 * noise.error, rel=0.1)
        assert noise.proposed == LEAST or noise.measure == "render_seconds"


@pytest.mark.parametrize("prompts", [12, 60])
def test_a_margin_is_four_standard_errors(prompts: int) -> None:
    found = propose(*runs(World(prompts=prompts, noise=0.2, lasting=0.0)), SPEC)
    assert all(noise.proposed == pytest.approx(4 * noise.error) for noise in found.noises)
    assert all(noise.proposed == pytest.approx(4 * 0.2 / sqrt(prompts), rel=0.5) for noise in found.noises)


def test_render_seconds_are_shares_of_their_mean() -> None:
    first, second = runs()
    quick, slow = propose(first, second, SPEC), propose(slower(first, 20), slower(second, 20), SPEC)
    one, twenty = (of(c, "render_seconds") for c in (quick, slow))
    assert twenty.level == pytest.approx(20 * one.level)
    assert (twenty.deviation, twenty.proposed) == pytest.approx((one.deviation, one.proposed))
    assert (twenty.low, twenty.high) == pytest.approx((one.low, one.high))


def test_margins_in_force_are_compared_with_the_noise() -> None:
    tight = GateSpec(resamples=2000, margins=Margins(diversity=0.004))
    found = propose(*runs(), tight)
    assert [noise.measure for noise in found.noises if not noise.has_enough_traffic] == ["diversity"]
    assert (found.has_enough_traffic, propose(*runs(), SPEC).has_enough_traffic) == (False, True)
    assert "the margin of 0.004 is too small" in of(found, "diversity").says
    assert of(found, "forgetting").says.endswith("the margin of 0.05 has_enough_traffic")


def test_runs_that_differ_are_reported() -> None:
    first, second = runs()
    found = propose(slower(first, 1.2), second, SPEC)
    assert of(propose(first, second, SPEC), "render_seconds").includes_zero
    assert not of(found, "render_seconds").includes_zero
    assert "the two runs differ" in of(found, "render_seconds").says


def test_the_yaml_lines_fit_into_a_preset() -> None:
    found = propose(*runs(), SPEC)
    preset = Preset.model_validate(yaml.safe_load(f"gate:\n{found.as_yaml()}  floor: 0.5\n"))
    for noise in found.noises:
        margin = getattr(preset.gate.margins, noise.measure)
        assert noise.proposed - 1e-9 <= margin < noise.proposed + 0.001
    assert propose(*runs(), preset.gate).has_enough_traffic


def test_a_calibration_round_trips_as_a_document() -> None:
    found = propose(*runs(), SPEC)
    assert Calibration.model_validate_json(found.model_dump_json()) == found


def test_incomparable_runs_are_rejected() -> None:
    first, second = runs()
    del second["forgetting"]
    with pytest.raises(CalibrationImpossible, match="forgetting of the champion was not measured"):
        propose(first, second, SPEC)


@pytest.mark.parametrize("prompts", [12, 60])
def test_guards_at_the_proposed_margins_let_equal_models_pass(prompts: int) -> None:
    found = calibrated(World(prompts=prompts, lasting=0.0, gain=0.5), 30, 10, resamples=1000)
    assert found.guards == 30 * 10 * 5
    assert found.at_once >= 0.9
    assert found.in_the_end >= 0.97
