"""The metrics of a drift check, parsed by Prometheus' client."""

import re

from prometheus_client.parser import text_string_to_metric_families

from tasks.core.reporting.metrics import VERDICTS, counter, gauge, prometheus_text
from tests.unit.core.reporting.test_drift_page import BEGIN, record, report


def samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("verdict", sample.labels.get("outcome", ""))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_the_metrics() -> None:
    ended = counter("dyeworks_retrains", "Retrains.", "adire", {"promote": 3, "keep": 1}, "outcome")
    text = prometheus_text(record(report(0.243, "retrain")), "adire", [ended]).decode()
    found = samples(text)
    assert found["dyeworks_drift_psi", ""] == 0.243
    assert found["dyeworks_drift_p_value", ""] == 2.5e-6
    assert found["dyeworks_drift_check_timestamp_seconds", ""] == BEGIN.timestamp()
    assert found["dyeworks_retrains_total", "promote"] == 3
    assert {v: found["dyeworks_drift_verdict", v] for v in VERDICTS} == {v: float(v == "retrain") for v in VERDICTS}
    names = {name for name, _ in found}
    assert len(names) == 12
    for name in names:
        assert re.search(rf"^# HELP {name} \S.*\n# TYPE {name} (gauge|counter)\n{name}\{{", text, re.M)
    assert text.endswith("\n")


def test_unknown_values_have_no_sample() -> None:
    odd = 'a"b\\c\nd'
    odd_metric = gauge("dyeworks_odd", "Odd\n\\one.", odd, float("nan"))
    text = prometheus_text(record(None), odd, more=[odd_metric]).decode()
    families = list(text_string_to_metric_families(text))
    assert {sample.labels["model"] for family in families for sample in family.samples} == {odd}
    assert {f.name for f in families} == {
        f"dyeworks_drift_{n}"
        for n in (
            "window_requests",
            "largest_session",
            "reference_requests",
            "generation",
            "check_timestamp_seconds",
            "verdict",
        )
    }
    assert "nan" not in text.lower()


def test_a_verdict_that_only_a_later_version_knows_is_a_sample_of_its_own() -> None:
    odd = record(report(0.243, "retrain").model_copy(update={"verdict": "slow_shift"}))
    found = samples(prometheus_text(odd, "adire").decode())
    assert found["dyeworks_drift_verdict", "slow_shift"] == 1
    assert [found["dyeworks_drift_verdict", verdict] for verdict in VERDICTS] == [0] * len(VERDICTS)
