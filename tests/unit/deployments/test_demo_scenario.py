"""What the demo makes of drift checks."""

from datetime import UTC, datetime

import pytest

from deployments.demo.scenario import DemoFailed, with_verdict
from tasks.core.monitoring.records import DriftRecord

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def check(verdict: str) -> DriftRecord:
    return DriftRecord(
        key="k",
        time=NOW,
        start=NOW,
        end=NOW,
        generation=1,
        verdict=verdict,
        says="260 requests are too few",
        requests=260,
        reference_requests=6000,
        drift=None,
    )


def test_a_scheduled_check_is_followed_by_another() -> None:
    checks = [check("stable"), check("retrain")]
    assert with_verdict(checks, "retrain", only=False) == checks[1:]
    assert with_verdict(checks[:1], "retrain", only=False) == []


def test_the_only_check_with_another_verdict_ends_the_demo() -> None:
    """It would wait until its timeout for a check that nobody starts."""
    assert with_verdict([], "stable", only=True) == []
    assert with_verdict([check("stable")], "stable", only=True) == [check("stable")]
    with pytest.raises(DemoFailed, match="found insufficient_data, not stable: 260 requests are too few"):
        with_verdict([check("insufficient_data")], "stable", only=True)
