"""What the process measures, for Prometheus; gauges are read from what they are about when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from deployments.observer import SECONDS, request_histogram
from tasks.core.reporting.metrics import exposition

SIZES = (1, 2, 4, 8, 16, 32, 64)


class GaugeReading(NamedTuple):
    """A gauge: values by the value of its label; a single one by an empty text if it has none."""

    name: str
    documentation: str
    label: str
    values: dict[str, float]


class Metrics:
    """The metrics of one storefront, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.readings = _Readings()
        self.registry.register(self.readings)
        ProcessCollector(registry=self.registry)
        self.requests = request_histogram(self.registry)
        self.queue_wait = Histogram(
            "dyeworks_queue_wait_seconds", "Pictures' wait.", buckets=SECONDS, registry=self.registry
        )
        self.batch_size = Histogram(
            "dyeworks_batch_size", "Pictures of a forward pass.", buckets=SIZES, registry=self.registry
        )
        self.images = Counter(
            "dyeworks_images",
            "Pictures; generation is champion, previous or other.",
            ("model", "generation", "route", "outcome"),
            registry=self.registry,
        )
        self.votes = Counter("dyeworks_votes", "Votes.", ("model", "liked"), registry=self.registry)
        self.adapter_load = Histogram(
            "dyeworks_adapter_load_seconds", "Loads of adapters.", buckets=SECONDS, registry=self.registry
        )

    def observe_batch(self, size: int, waits: Sequence[float]) -> None:
        """Count a batch and the wait of its pictures."""
        self.batch_size.observe(size)
        for wait in waits:
            self.queue_wait.observe(wait)

    def read_from(self, read: Callable[[], list[GaugeReading]]) -> None:
        """Read the gauges from here when they are asked for."""
        self.readings.read = read

    def text(self, *others: bytes) -> bytes:
        """All metrics in Prometheus' text format, with those of other texts: families of one name become one."""
        families = {family.name: family for family in self.registry.collect()}
        for family in (found for text in others for found in text_string_to_metric_families(text.decode())):
            if family.name in families:
                families[family.name].samples += family.samples
            else:
                families[family.name] = family
        return exposition(families.values())


class _Readings(Collector):
    def __init__(self) -> None:
        self.read: Callable[[], list[GaugeReading]] = list

    def describe(self) -> Iterator[Metric]:
        """Nothing is read when it is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        for name, documentation, label, values in self.read():
            gauge = GaugeMetricFamily(name, documentation, labels=[label] if label else [])
            for key, value in values.items():
                gauge.add_metric([key] if label else [], value)
            yield gauge
