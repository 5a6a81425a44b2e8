"""What the tests of the drift detector share: a profile of clean traffic, and a check that keeps its null tables."""

import pytest

from tasks.core.drift import DriftProfile, DriftReport, check, fit_profile
from tests.unit.core.drift.kinds import ENCODER, SPEC, Checker, Floats, Ints, World


@pytest.fixture(scope="session")
def profile() -> DriftProfile:
    return fit_profile(World().window(8000), encoder=ENCODER, spec=SPEC)


@pytest.fixture(scope="session")
def run(profile: DriftProfile, tmp_path_factory: pytest.TempPathFactory) -> Checker:
    cache = tmp_path_factory.mktemp("null")

    def against(
        rows: Floats, groups: Ints | None = None, profile: DriftProfile = profile, seed: int = 0
    ) -> DriftReport:
        return check(profile, rows, encoder=ENCODER, groups=groups, null_cache=cache, seed=seed)

    return against
