"""The page of a drift check: one self-contained HTML file without scripts."""

from collections.abc import Sequence
from datetime import UTC, datetime

from tasks.core.config.drift import DriftSpec
from tasks.core.drift.detector import DriftReport
from tasks.core.drift.psi import new_traffic_share
from tasks.core.monitoring.records import DriftRecord
from tasks.core.reporting.plots import distribution_plot, history_plot, plot, topics_plot
from tasks.core.reporting.rendering import render_template

HEADLINES = {
    "retrain": "People ask for something new",
    "warn": "People may be starting to ask for something new",
    "stable": "People ask for what they asked for before",
    "insufficient_data": "Too few requests to judge",
    "provisional": "No reference to compare with yet",
}


def headline(record: DriftRecord) -> str:
    """The verdict in a few words."""
    return HEADLINES.get(record.verdict, record.verdict)


def sentence(record: DriftRecord, spec: DriftSpec) -> str:
    """The verdict and its figures, as one sentence."""
    report = record.drift
    if report is None or report.verdict not in HEADLINES:  # of a later version
        return f"{record.verdict.capitalize().replace('_', ' ')}: {record.says}."
    if report.verdict == "insufficient_data":
        return (
            f"Too few: {_counted(report)}, and {spec.min_effective} independent ones are needed; nothing was decided."
        )
    return f"{_reason(report, spec)}, over {_counted(report)}: {_new(report)}."


def meaning(spec: DriftSpec) -> str:
    """The meaning of the PSI, at both thresholds."""
    low, high = (f"{new_traffic_share(value, spec.bins):.1%}" for value in (spec.warn_psi, spec.retrain_psi))
    return (
        f"The PSI compares the distribution of this window's requests with that of the reference; 0 is no "
        f"difference. {spec.warn_psi:g} corresponds to {low} of wholly new requests, {spec.retrain_psi:g} to {high}. "
        f"A value slightly below 0 is chance. p is the probability of at least this PSI by chance alone: a warning "
        f"needs p below {spec.warn_p:g}, a retrain p below {spec.retrain_p:.1g}. Requests in bursts or repeats carry "
        f"less information than independent ones; the effective number accounts for that."
    )


def compared(record: DriftRecord) -> str:
    """The reference that the window was compared with."""
    if record.drift:
        return f"Compared with the frozen reference of generation {record.generation}."
    if record.generation:
        return f"Compared with nothing: generation {record.generation} has no reference of its own yet."
    return "Compared with nothing: no generation has been promoted yet."


def _reason(report: DriftReport, spec: DriftSpec) -> str:
    value, chance = f"PSI {report.psi:.3f}", f"p {report.p_value:.2g}"
    if report.verdict == "retrain":
        return f"Retrain: {value} is at or over the threshold of {report.threshold:g} ({chance})"
    if report.verdict == "warn" and report.psi < report.threshold:
        return f"Warning: {value} is over {spec.warn_psi:g} and under the threshold of {report.threshold:g} ({chance})"
    if report.verdict == "warn":
        return f"Warning: {value} is over the threshold of {report.threshold:g}, but not significantly ({chance})"
    if report.psi >= spec.warn_psi:
        return f"Stable: {value} is over {spec.warn_psi:g}, but may be due to chance ({chance})"
    return f"Stable: {value} is under {spec.warn_psi:g} and the threshold of {report.threshold:g} ({chance})"


def _counted(report: DriftReport) -> str:
    return f"{report.n:,} requests, worth {report.n_effective:,.0f} independent ones"


def _new(report: DriftReport) -> str:
    share = report.new_traffic_share
    return f"about {share:.0%} of the traffic is new" if share >= 0.005 else "almost none of the traffic is new"


def drift_page(
    record: DriftRecord,
    past: Sequence[DriftRecord],
    spec: DriftSpec,
    *,
    model: str,
    profile: str = "",
    evidently: str = "",
    decision: str = "",
) -> str:
    """The page; `past` may include the record itself.

    `profile` identifies the reference, `evidently` is the relative URL of Evidently's report (empty: no link),
    `decision` is that of the retrain policy.
    """
    checks = list({r.key: r for r in (*past, record) if r.drift}.values())
    found = record.drift.distribution if record.drift else None
    return render_template(
        "drift.html",
        record=record,
        model=model,
        headline=headline(record),
        sentence=sentence(record, spec),
        figures=_figures(record),
        decision=decision,
        start=_moment(record.start),
        end=_moment(record.end),
        history=plot("PSI of each check over time", lambda t: history_plot(checks, spec, t)) if checks else None,
        distribution=plot("Scores of window and reference", lambda t: distribution_plot(found, t)) if found else None,
        topics=plot("Topics that grew", lambda t: topics_plot(record.topics, t)) if record.topics else None,
        meaning=meaning(spec),
        compared=compared(record),
        profile=profile,
        evidently=evidently,
    )


def _figures(record: DriftRecord) -> dict[str, str]:
    figures = {"requests": f"{record.requests:,}"}
    if report := record.drift:
        figures["effective"] = f"{report.n_effective:,.0f}"
    if record.largest_session:
        figures["largest session"] = f"{record.largest_session:.0%}"
    if record.reference_requests:
        figures["reference"] = f"{record.reference_requests:,}"
    if report and record.verdict != "insufficient_data":  # a PSI of too few requests would only mislead
        share, p = f"{report.new_traffic_share:.0%}", f"{report.p_value:.2g}"
        figures = {"PSI": f"{report.psi:.3f}", "threshold": f"{report.threshold:g}", "p": p, "new": share} | figures
    return figures


def _moment(time: datetime) -> str:
    there = time.astimezone(UTC)
    return f"{there.day} {there:%B %Y, %H:%M} UTC"
