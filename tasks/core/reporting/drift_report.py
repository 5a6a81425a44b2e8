"""The outputs of a check: report.html, Evidently's page, MLflow's metrics, Prometheus' text."""

from collections import Counter

import numpy as np

from tasks.core.drift import DriftProfile
from tasks.core.drift.rows import Floats
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.records import DriftRecord
from tasks.core.reporting.metrics import counter, metrics_key, prometheus_text
from tasks.core.retraining.decisions import RetrainDecision, read_decisions

COMPONENTS = 5
MOST_FITTED = 5000  # rows that the components are fitted on


def write_pages(check: DriftCheck, record: DriftRecord, decision: RetrainDecision) -> list[str]:
    """Write report.html, and evidently.html if the specification requests it; returns their keys."""
    from tasks.core.reporting.drift_page import drift_page  # noqa: PLC0415  lazy: importing matplotlib takes a second

    folder = record.key.rpartition("/")[0]
    past = check.past(record)
    before = past[-2] if len(past) > 1 else None
    news = decision.action == "retrain" or before is None or before.verdict != record.verdict
    evidently = _evidently(check, record) if wants_evidently(check.spec.evidently, record.verdict, news) else ""
    page = drift_page(
        record,
        past,
        check.spec.drift,
        model=check.model.name,
        evidently="evidently.html" if evidently else "",
        decision=f"{decision.action}: {decision.reason}",
    )
    pages = {"evidently.html": evidently, "report.html": page}
    for name, text in pages.items():
        if text:
            check.store.write(f"{folder}/{name}", text.encode())
    return [f"{folder}/{name}" for name, text in pages.items() if text]


def drawings(check: DriftCheck, record: DriftRecord) -> dict[str, tuple[str, bytes]]:
    """The plots of a check, each with its description and its PNG."""
    if record.drift is None or record.drift.distribution is None:
        return {}
    from tasks.core.reporting import plots  # noqa: PLC0415  lazy: importing matplotlib takes a second

    past = check.past(record)
    found = {
        "drift-history": ("PSI of each check over time", plots.history_plot(past, check.spec.drift)),
        "drift-scores": (
            "Scores of the requests against the reference",
            plots.distribution_plot(record.drift.distribution),
        ),
    }
    if record.topics:
        found["drift-topics"] = ("Topics that grew", plots.topics_plot(record.topics))
    return found


def wants_evidently(when: str, verdict: str, news: bool) -> bool:
    """Whether Evidently's page is written: it takes seconds and 4 MB, so by default on a new drift or a retrain.

    `news`: the previous check had another verdict, or a retrain starts.
    """
    return when == "always" or (when == "drift" and verdict in ("warn", "retrain") and news)


def _evidently(check: DriftCheck, record: DriftRecord) -> str:
    """The key of Evidently's page; empty if there is nothing to compare."""
    profile, lines = check.reference[0], check.window.lines
    if profile is None or not profile.texts or not lines:
        return ""
    from tasks.core.reporting.evidently_page import evidently_page  # noqa: PLC0415  lazy: importing Evidently takes seconds

    texts = [line.prompt for line in lines]
    axes = principal_axes(profile)
    return evidently_page(profile.texts, texts, profile.reference @ axes, check.rows @ axes)


def principal_axes(profile: DriftProfile) -> Floats:
    """The first principal axes of the reference, float32 [d, 5]."""
    rows = profile.reference[:MOST_FITTED].astype(np.float64)
    _, axes = np.linalg.eigh(np.cov(rows, rowvar=False))
    return np.asarray(axes[:, : -COMPONENTS - 1 : -1], dtype=np.float32)


def write_metrics(check: DriftCheck, record: DriftRecord) -> None:
    """Write the text served by `GET /metrics` of the storefront."""
    model = check.model.name
    outcomes = [d for d in read_decisions(check.store, model) if d.cause == "outcome"]
    counts = Counter(str(decision.outcome) for decision in outcomes)
    ended = counter("dyeworks_retrains", "Retrains by outcome.", model, counts, "outcome")
    hours = sum(d.gpu_hours for d in outcomes)
    spent = counter("dyeworks_retrain_gpu_hours", "GPU-hours of all retrains.", model, hours)
    check.store.write(metrics_key(model), prometheus_text(record, model, [ended, spent]))


def track(check: DriftCheck, record: DriftRecord) -> None:
    """Log the check's figures to MLflow: a run for each reference, a step for each check."""
    if record.drift is None:
        return
    from tasks.core.tracking import runs  # noqa: PLC0415  lazy: importing MLflow takes seconds

    model = check.model.name
    name = f"reference of generation {record.reference_generation}"
    run = runs.open_run(f"{model}-drift", name, f"{model}-{record.reference_generation}", {})
    figures = record.drift.model_dump(include={"psi", "p_value", "new_traffic_share", "n", "n_effective", "threshold"})
    runs.log_metrics(run, [(int(record.time.timestamp()) // 60, {k: float(v) for k, v in figures.items()})])
