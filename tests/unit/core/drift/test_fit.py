"""The fit of a reference: its overdispersion, its size, and the references that are refused."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.core.drift import DriftSpec, fit_profile
from tasks.core.drift.errors import BadEmbeddings, ReferenceTooSmall
from tasks.core.drift.fit import stretches
from tests.unit.core.drift.kinds import ENCODER, SPEC, Checker, World, verdicts


def test_overdispersion_keeps_sticky_sessions_from_false_alarms(run: Checker) -> None:
    world = World().seeded(600)
    rows, groups = world.sessions(12_000, 8)
    blocks = np.arange(12_000) // 600
    replayed = fit_profile(rows, encoder=ENCODER, groups=groups, blocks=blocks, spec=SPEC)
    by_itself = fit_profile(rows, encoder=ENCODER, groups=groups, spec=SPEC)
    assert by_itself.card.phi == pytest.approx(replayed.card.phi, rel=0.4)
    trusting = replace(replayed, card=replayed.card.model_copy(update={"phi": 1.0}))
    assert 1.5 < replayed.card.phi < 6
    windows = [world.sessions(1600, 8) for _ in range(30)]
    reports = [run(*window, profile=replayed) for window in windows]
    assert verdicts(reports)["stable"] >= 29
    assert reports[0].n_effective == pytest.approx(1600 / replayed.card.phi)
    careless = [run(*window, profile=trusting).p_value < 0.01 for window in windows]
    assert np.mean(careless) > 2 * np.mean([report.p_value < 0.01 for report in reports])


def test_independent_rows_have_little_overdispersion() -> None:
    rows, blocks = World().seeded(601).window(8000), np.arange(8000) // 500
    assert fit_profile(rows, encoder=ENCODER, blocks=blocks, spec=SPEC).card.phi == 1
    assert fit_profile(rows, encoder=ENCODER, blocks=blocks // 6, spec=SPEC).card.phi == 1, "three blocks say nothing"


def test_stretches_hold_whole_groups_in_their_order() -> None:
    groups = np.random.default_rng(0).permutation(np.arange(1000) // 2)
    blocks = stretches(groups)
    assert len(np.unique(blocks)) == 10
    assert all(len(set(blocks[groups == group])) == 1 for group in range(500))
    assert np.bincount(blocks).min() >= 50
    assert blocks[0] == 0


def test_a_large_reference_is_sampled_by_whole_groups() -> None:
    rows, groups = World().window(6000), np.arange(6000) // 3
    profile = fit_profile(rows, groups=groups, spec=SPEC.model_copy(update={"max_reference": 2000}))
    assert 1990 <= profile.card.rows_a + profile.card.rows_b <= 2000
    assert set(np.unique(profile.groups, return_counts=True)[1]) == {3}


def test_a_short_reference_is_refused() -> None:
    with pytest.raises(ReferenceTooSmall, match="199 reference rows"):
        fit_profile(World().window(199), encoder=ENCODER, spec=SPEC)
    with pytest.raises(ReferenceTooSmall, match="0 reference rows"):
        fit_profile(np.zeros((0, 64), dtype=np.float32), encoder=ENCODER, spec=SPEC)


def test_degenerate_references_are_refused_or_harmless(run: Checker) -> None:
    same = np.repeat(World().window(1), 2500, axis=0)
    for groups in (None, np.arange(2500)):
        with pytest.raises(ReferenceTooSmall, match="1 distinct reference rows, 20 are needed"):
            fit_profile(same, encoder=ENCODER, groups=groups, spec=SPEC)
    columns = World().window(2500)
    columns[:, 1:5] = 0.1
    dull = fit_profile(columns, encoder=ENCODER, spec=SPEC)
    assert run(columns[:300], profile=dull).verdict == "stable", "constant in both"
    with pytest.raises(BadEmbeddings, match="column 1 is constant in the reference and not in the window"):
        run(World().window(300), profile=dull)


@pytest.mark.parametrize(
    "bad", [{"draws": 10_000}, {"retrain_psi": 0.05}, {"retrain_p": 0.01}, {"folds": 1}, {"colour": "madder"}]
)
def test_a_spec_that_cannot_work_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DriftSpec.model_validate(bad)
