"""What the gateway measures, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest

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

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
