"""The PSI, and the share of new traffic that it stands for."""

import numpy as np
import pytest

from tasks.core.drift import new_traffic_share
from tasks.core.drift.psi import psi, share_to_psi


def test_the_psi_of_even_counts_is_zero() -> None:
    assert psi(np.full(10, 30)) == pytest.approx(0)
    assert psi(np.array([300] + [0] * 9)) > 2


@pytest.mark.parametrize(("value", "share"), [(0.1, 0.125), (0.2, 0.186), (0.0, 0.0), (-0.3, 0.0)])
def test_the_share_of_new_traffic(value: float, share: float) -> None:
    assert new_traffic_share(value) == pytest.approx(share, abs=0.001)


def test_the_closed_form_is_inverted() -> None:
    for share in (0.001, 0.05, 0.3, 0.7, 0.99):
        assert new_traffic_share(share_to_psi(share)) == pytest.approx(share, abs=1e-9)
    assert share_to_psi(0.3) == pytest.approx(psi(np.array([70_000] * 9 + [370_000])), abs=1e-3)
    assert new_traffic_share(1e9) <= 1
