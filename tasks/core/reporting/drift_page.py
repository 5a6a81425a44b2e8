"""The page of a drift check: one HTML file that needs nothing beside itself and runs nothing."""

import base64
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from tasks.core.config.drift import DriftSpec
from tasks.core.drift.check import DriftReport
from tasks.core.drift.explain import Topic
from tasks.core.drift.score import new_traffic_share
from tasks.core.monitoring.records import DriftRecord
from tasks.core.reporting.html import html_page, section, shown
from tasks.core.reporting.plots import distribution_plot, history_plot, topics_plot
from tasks.core.reporting.theme import DARK, LIGHT, Theme

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
    """The whole page; `past` may hold the record itself. Strangers' words are escaped, and nothing is loaded.

    `profile` names the reference, `evidently` is the relative address of the report beside it (empty: no link),
    `decision` what the retrain policy made of the check.
    """
    sections = (
        _verdict(record, spec, model, decision),
        _history(record, past, spec),
        _distribution(record),
        _topics(record.topics, record.coverage_near),
        _fresh(record.fresh),
        _meaning(record, spec, profile, evidently),
    )
    return html_page(f"{headline(record)}: {model}", sections, record.key)


def _verdict(record: DriftRecord, spec: DriftSpec, model: str, decision: str) -> str:
    kind = escape(record.verdict)
    decided = f"<p>Decision: {escape(decision)}</p>" if decision else ""
    advice = f"<p>{escape(record.advice)}.</p>" if record.advice and record.drift else ""  # else a part of the sentence
    return (
        f'<section class="verdict {kind}"><div class="badge">{kind.replace("_", " ")}</div>'
        f'<h1>{escape(headline(record))}</h1><p class="lead">{escape(sentence(record, spec))}</p>{_figures(record)}'
        f"{advice}{decided}"
        f'<p class="quiet">Requests for {escape(model)} from {_moment(record.start)} to {_moment(record.end)}.</p>'
        "</section>"
    )


def _figures(record: DriftRecord) -> str:
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
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in figures.items())}</dl>"


def _history(record: DriftRecord, past: Sequence[DriftRecord], spec: DriftSpec) -> str:
    checks = list({r.key: r for r in (*past, record) if r.drift}.values())
    if not checks:
        return ""
    picture = _picture("PSI of each check over time", lambda theme: history_plot(checks, spec, theme))
    return section("All checks", picture)


def _distribution(record: DriftRecord) -> str:
    found = record.drift.distribution if record.drift else None
    if not found:
        return ""
    picture = _picture("Scores of window and reference", lambda theme: distribution_plot(found, theme))
    text = "Each request is scored along the direction in which the window differs from the reference."
    return section("How unlike the reference the requests are", f'<p class="quiet">{text}</p>{picture}')


def _topics(topics: Sequence[Topic], near: float | None) -> str:
    if not topics:
        return ""
    picture = _picture("Topics that grew", lambda theme: topics_plot(topics, theme))
    names = ("topic, and prompts from its middle", "reference", "window", "pictures")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(_topic(topic, near) for topic in topics)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return section("What has grown", picture + table)


def _topic(topic: Topic, near: float | None) -> str:
    terms = shown(", ".join(topic.terms)) if topic.terms else "no words stand out"
    return (
        f"<tr><td><strong>{terms}</strong>{_prompts(topic.medoids)}</td>"
        f'<td class="number" data-name="reference">{topic.share_reference:.1%}</td>'
        f'<td class="number" data-name="window">{topic.share_current:.1%}</td>'
        f'<td data-name="pictures">{_nearness(topic.coverage, near)}</td></tr>'
    )


def _nearness(coverage: float | None, near: float | None) -> str:
    if coverage is None or near is None:
        return "not known"
    cosine = f'<span class="quiet">(nearest caption {coverage:.2f})</span>'
    if coverage < near:
        return f'<span class="missing">no picture comes near: photograph this</span> {cosine}'
    return f"there are pictures of it {cosine}"


def _fresh(prompts: Sequence[str]) -> str:
    if not prompts:
        return ""
    note = '<p class="quiet">A sample of the requests that are most unlike the reference.</p>'
    return section("New prompts", note + _prompts(prompts))


def _meaning(record: DriftRecord, spec: DriftSpec, profile: str, evidently: str) -> str:
    link = (
        f'<p><a href="{escape(evidently)}">Evidently\u2019s report</a> on the same requests: lengths, words and single'
    )
    link += " directions. It counts by rules of its own; the verdict is the one above.</p>"
    named = f" Its profile is {escape(profile)}." if profile else ""
    text = f"<p>{escape(meaning(spec))}</p><p>{escape(compared(record))}{named}</p>{link if evidently else ''}"
    return section("What the numbers mean", text)


def _prompts(prompts: Iterable[str]) -> str:
    """A list; each prompt runs in its own direction and cannot turn the text around it."""
    return f'<ul class="prompts">{"".join(f"<li>{shown(prompt)}</li>" for prompt in prompts)}</ul>'


def _picture(text: str, draw: Callable[[Theme], bytes]) -> str:
    """The plot for a light page and for a dark one."""
    light, dark = (f"data:image/png;base64,{base64.b64encode(draw(theme)).decode()}" for theme in (LIGHT, DARK))
    source = f'<source media="(prefers-color-scheme:dark)" srcset="{dark}">'
    return f'<picture>{source}<img alt="{text}" src="{light}"></picture>'


def _moment(time: datetime) -> str:
    there = time.astimezone(UTC)
    return f"{there.day} {there:%B %Y, %H:%M} UTC"
