"""What the gateway measures, for Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deployments.gateway.batches import OutboxState
from deployments.observer import request_histogram


class GatewayMetrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = request_histogram(self.registry)
        self.notifications = Counter(
            "dyeworks_notifications",
            "Records of notifications; outcome is new, repeated, ignored or bad.",
            ("sender", "outcome"),
            registry=self.registry,
        )
        self.uploads = Counter(
            "dyeworks_uploads",
            "Files that were uploaded to the gateway; outcome is stored or unchanged.",
            ("outcome",),
            registry=self.registry,
        )
        self.upload_bytes = Counter(
            "dyeworks_upload_bytes", "Bytes of files that the gateway has stored.", registry=self.registry
        )
        self.refused = Counter(
            "dyeworks_requests_refused", "Requests that were refused.", ("reason",), registry=self.registry
        )

    def count(self, sender: str, outcome: str, number: int) -> None:
        """Count records of a notification."""
        if number:
            self.notifications.labels(sender, outcome).inc(number)

    def text(self, runs: int, outbox: OutboxState | None) -> bytes:
        """All metrics in Prometheus' text format; None for an outbox that cannot be read."""
        return generate_latest(self.registry) + generate_latest(_Figures(runs, outbox))


class _Figures(Collector):
    """What is asked for when the metrics are."""

    def __init__(self, runs: int, outbox: OutboxState | None) -> None:
        self.runs, self.outbox = runs, outbox

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        yield CounterMetricFamily("dyeworks_runs_started", "Runs of ingest-upload that were created.", self.runs)
        if outbox := self.outbox:
            yield GaugeMetricFamily("dyeworks_outbox_waiting", "Uploads whose run is not started.", outbox.objects)
            yield GaugeMetricFamily("dyeworks_outbox_dead", "Batches that Prefect rejects.", outbox.dead)
            yield GaugeMetricFamily("dyeworks_outbox_oldest_seconds", "Age of the oldest of these.", outbox.oldest)
