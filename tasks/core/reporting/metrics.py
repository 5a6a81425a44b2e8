"""A drift check as metrics, in Prometheus' text exposition format 0.0.4."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar, get_args

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tasks.core.drift.detector import Verdict
from tasks.core.monitoring.records import DriftRecord

__all__ = ["CONTENT_TYPE", "counter", "exposition", "gauge", "metrics_key", "prometheus_text"]

VERDICTS = get_args(Verdict)
M = TypeVar("M", GaugeMetricFamily, CounterMetricFamily)
Value: TypeAlias = float | Mapping[str, float] | None  # one, or one per value of a further label


def metrics_key(model: str) -> str:
    """Key of the newest check's text in the store."""
    return f"models/{model}/drift/metrics.prom"


class _Collected(Collector):
    """A collector of given metrics."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """The metrics with a sample."""
        return (metric for metric in self._metrics if metric.samples)


def gauge(name: str, documentation: str, model: str, value: Value, label: str = "") -> Metric:
    """A gauge of a model; values that are unknown or not finite are left out."""
    return _filled(GaugeMetricFamily(name, documentation, labels=_labels(label)), model, value)


def counter(name: str, documentation: str, model: str, value: Value, label: str = "") -> Metric:
    """A counter of a model, whose name ends in `_total` in the text."""
    return _filled(CounterMetricFamily(name, documentation, labels=_labels(label)), model, value)


def prometheus_text(record: DriftRecord, model: str, more: Sequence[Metric] = ()) -> bytes:
    """The metrics of the newest check of `model`, and `more`; metrics without a sample are left out."""
    return exposition([*_of_check(record, model), *more])


def exposition(metrics: Iterable[Metric]) -> bytes:
    """Metrics as text; those without a sample are left out."""
    return generate_latest(_Collected(metrics))


def _of_check(record: DriftRecord, model: str) -> Iterator[Metric]:
    verdicts = {verdict: float(verdict == record.verdict) for verdict in {*VERDICTS, record.verdict}}
    values: dict[str, tuple[str, Value]] = {
        "window_requests": ("Requests in the window.", record.requests),
        "largest_session": ("Share of the window's requests in the largest session.", record.largest_session),
        "reference_requests": ("Requests in the reference.", record.reference_requests),
        "generation": ("Generation that was checked, 0 for none.", record.generation),
        "check_timestamp_seconds": ("Time of the check, Unix time.", record.time.timestamp()),
    }
    if report := record.drift:
        values |= {
            "psi": ("PSI less its mean when nothing has drifted.", report.psi),
            "p_value": ("Probability of a PSI at least as high without drift.", report.p_value),
            "new_traffic_share": ("Share of traffic that is new.", report.new_traffic_share),
            "threshold": ("PSI at which a retrain is requested.", report.threshold),
            "window_effective": ("Independent requests in the window.", report.n_effective),
        }
    yield from (gauge(f"dyeworks_drift_{name}", help_text, model, value) for name, (help_text, value) in values.items())
    yield gauge("dyeworks_drift_verdict", "1 for the verdict of the check, 0 for others.", model, verdicts, "verdict")


def _labels(label: str) -> list[str]:
    return ["model", label] if label else ["model"]


def _filled(family: M, model: str, value: Value) -> M:
    """The family with its samples."""
    values = value if isinstance(value, Mapping) else {"": value}
    for key, number in values.items():
        if number is not None and math.isfinite(number):
            family.add_metric([model, key] if key else [model], float(number))
    return family
