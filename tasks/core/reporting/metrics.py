"""A drift check as metrics, in Prometheus' text exposition format 0.0.4."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from tasks.core.drift.check import Verdict
from tasks.core.monitoring.records import DriftRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
VERDICTS = get_args(Verdict)


def metrics_key(model: str) -> str:
    """Where the text of the newest check lies in the store."""
    return f"drift/{model}/metrics.prom"


@dataclass(frozen=True)
class Metric:
    """A metric: one value, or one for each value of a label; what is not finite is left out."""

    name: str
    help: str
    value: float | Mapping[str, float] | None
    label: str = ""
    kind: Literal["gauge", "counter"] = field(default="gauge", kw_only=True)


def prometheus_text(record: DriftRecord, model: str, more: Sequence[Metric] = ()) -> str:
    """The metrics of the newest check of `model`, and `more`; unknown ones are left out."""
    return "".join(line + "\n" for metric in (*_of_check(record), *more) for line in _lines(metric, model))


def _of_check(record: DriftRecord) -> Iterator[Metric]:
    verdicts = {verdict: float(verdict == record.verdict) for verdict in VERDICTS}
    if report := record.drift:
        yield Metric("dyeworks_drift_psi", "PSI less its mean when nothing has drifted.", report.psi)
        yield Metric("dyeworks_drift_p_value", "How often chance alone gives as much.", report.p_value)
        yield Metric("dyeworks_drift_new_traffic_share", "Share of traffic that is new.", report.new_traffic_share)
        yield Metric("dyeworks_drift_threshold", "PSI from which a retrain is asked for.", report.threshold)
        yield Metric("dyeworks_drift_window_effective", "Independent requests in the window.", report.n_effective)
    yield Metric("dyeworks_drift_window_requests", "Requests in the window.", record.requests)
    yield Metric("dyeworks_drift_largest_session", "Share that came in one session.", record.largest_session)
    yield Metric("dyeworks_drift_reference_requests", "Requests in the reference.", record.reference_requests)
    yield Metric("dyeworks_drift_generation", "Generation that was checked, 0 for none.", record.generation)
    yield Metric("dyeworks_drift_check_timestamp_seconds", "When it was checked, Unix time.", record.time.timestamp())
    yield Metric("dyeworks_drift_verdict", "1 for the verdict of the check, 0 for others.", verdicts, "verdict")


def _lines(metric: Metric, model: str) -> Iterator[str]:
    """HELP, TYPE and the samples; nothing for a metric without one."""
    values = metric.value if isinstance(metric.value, Mapping) else {"": metric.value}
    known = {key: float(value) for key, value in values.items() if value is not None and math.isfinite(value)}
    if known:
        yield f"# HELP {metric.name} {_escaped(metric.help)}"
        yield f"# TYPE {metric.name} {metric.kind}"
    for key, value in known.items():
        labels = {"model": model} | ({metric.label: key} if metric.label else {})
        text = ",".join(f'{name}="{_quoted(content)}"' for name, content in labels.items())
        yield f"{metric.name}{{{text}}} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
