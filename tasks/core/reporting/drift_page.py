"""The page of a drift check: one HTML file that needs nothing beside itself and runs nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime

from tasks.core.config.drift import DriftSpec
from tasks.core.drift.check import DriftReport
from tasks.core.drift.score import new_traffic_share
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
    """The verdict and the numbers it rests on, as one plain sentence."""
    report = record.drift
    if report is None:
        return f"{record.verdict.capitalize().replace('_', ' ')}: {record.says}."
    if report.verdict == "insufficient_data":
        return (
            f"Too few: {_counted(report)}, and {spec.min_effective} independent ones are needed; nothing was decided."
        )
    return f"{_reason(report, spec)}, over {_counted(report)}: {_new(report)}."


def meaning(spec: DriftSpec) -> str:
    """What the PSI stands for, at both thresholds."""
    low, high = (f"{new_traffic_share(value, spec.bins):.1%}" for value in (spec.warn_psi, spec.retrain_psi))
    return (
        f"The PSI compares where the requests of this window lie with where those of the reference lie; 0 is no "
        f"difference. {spec.warn_psi:g} is what {low} of wholly new requests give, {spec.retrain_psi:g} is what {high} "
        f"give. A little below 0 is chance. p is how often chance alone gives as much: a warning needs p below "
        f"{spec.warn_p:g}, a retrain p below {spec.retrain_p:.1g}. Requests that come in bursts or repeat each other "
        f"tell less than independent ones; the effective number is what they are worth."
    )


def compared(record: DriftRecord) -> str:
    """What the window was held against."""
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
        return f"Warning: {value} is over the threshold of {report.threshold:g}, but not surely enough ({chance})"
    if report.psi >= spec.warn_psi:
        return f"Stable: {value} is over {spec.warn_psi:g}, but may well be chance ({chance})"
    return f"Stable: {value} is under {spec.warn_psi:g} and the threshold of {report.threshold:g} ({chance})"


def _counted(report: DriftReport) -> str:
    return f"{report.n:,} requests, worth {report.n_effective:,.0f} independent ones"


def _new(report: DriftReport) -> str:
    share = report.new_traffic_share
    return f"about {share:.0%} of the traffic is new" if share >= 0.005 else "none of the traffic is new, to speak of"


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
    """The whole page; `past` may hold the record itself.

    `profile` names the reference, `evidently` is the relative address of the report beside it (empty: no link),
    `decision` what the retrain policy made of the check.
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
