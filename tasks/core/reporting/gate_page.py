"""The gate's decision as a document for whoever was not there: Markdown for Prefect, one HTML file for everybody."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from tasks.core.gate.checks import Check
from tasks.core.gate.decide import GateDecision
from tasks.core.gate.statistics import LESS_IS_BETTER
from tasks.core.reporting import gate_words
from tasks.core.reporting.gate_text import About, compared, follows, headline, measures, outcome, reading, sentence
from tasks.core.reporting.gate_words import allowed, found
from tasks.core.reporting.html import html_page, section

WIDTH, HEIGHT, EDGE = 220, 30, 8  # units of the drawing
REACH = 2.0  # margins to either side
SPAN_STYLE = """
svg.span{display:block;width:100%;max-width:20rem;height:auto}
.span .ground{fill:var(--soft)}.span .barred{fill:var(--retrain);opacity:.16}
.span .none{stroke:var(--quiet);stroke-width:1}.span .limit{stroke:var(--retrain);stroke-width:1.5;stroke-dasharray:3 3}
.span .bar{stroke:var(--tone);stroke-width:4}.span .end,.span .dot{fill:var(--tone)}
"""


def span(check: Check) -> str:
    """SVG: better lies to the right, what is not allowed is tinted, the bar is the interval, the dot the difference."""
    low, high, limit = check.low or 0.0, check.high or 0.0, check.limit
    sign = -1 if check.measure in LESS_IS_BETTER else 1
    unit = abs(limit) or max(abs(low), abs(high)) / (0.9 * REACH) or 1.0
    start, end = sorted((_place(sign * low / unit), _place(sign * high / unit)))
    barred, none, dot = (_place(sign * v / unit) for v in (limit, 0.0, check.value))
    drawn = (
        f'<rect class="ground" x="{EDGE}" y="3" width="{WIDTH - 2 * EDGE}" height="24" rx="3"/>'
        f'<rect class="barred" x="{EDGE}" y="3" width="{barred - EDGE:.1f}" height="24"/>'
        f'<line class="none" x1="{none:.1f}" x2="{none:.1f}" y1="3" y2="27"/>'
        f'<line class="limit" x1="{barred:.1f}" x2="{barred:.1f}" y1="0" y2="30"/>'
        f'<line class="bar" x1="{start:.1f}" x2="{end:.1f}" y1="15" y2="15"/>{_beyond(start, end)}'
        f'<circle class="dot" cx="{dot:.1f}" cy="15" r="5"/>'
    )
    text = escape(f"{found(check)}; allowed: {allowed(check)}")
    return f'<svg class="span" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text}">{drawn}</svg>'


def _place(margins: float) -> float:
    """Where a difference of so many margins lies; what is out of reach lies at the edge."""
    inside = max(-REACH, min(REACH, margins))
    return EDGE + (inside + REACH) / (2 * REACH) * (WIDTH - 2 * EDGE)


def _beyond(start: float, end: float) -> str:
    """Arrowheads where the interval goes on out of the drawing."""
    left = f'<path class="end" d="M{EDGE} 8 L0 15 L{EDGE} 22Z"/>' if start <= EDGE else ""
    right = f'<path class="end" d="M{WIDTH - EDGE} 8 L{WIDTH} 15 L{WIDTH - EDGE} 22Z"/>' if end >= WIDTH - EDGE else ""
    return left + right


STYLE = """
.promote{--tone:var(--stable)}.keep{--tone:var(--other)}.inconclusive,.overruled{--tone:var(--warn)}
.passed{--tone:var(--stable)}.failed{--tone:var(--retrain)}.unsure{--tone:var(--warn)}
td.said{color:var(--tone);font-weight:600}td:has(svg){width:40%}td:first-child{width:auto}td:first-child::first-letter{text-transform:uppercase}
td{font-size:.95rem}td small{display:block;color:var(--quiet);font-size:.85rem;font-variant-numeric:tabular-nums}
.facts{grid-template-columns:max-content 1fr;gap:.35rem 1.2rem;margin:.2rem 0}
.facts dt{font-size:.95rem;line-height:1.55}.facts dd{font-size:.95rem}
.next li{margin:.5rem 0;padding-left:1rem;border-left:.2rem solid var(--line)}
figure{margin:.8rem 0 0}figcaption{color:var(--quiet);font-size:.9rem;margin-bottom:.4rem}figure img{max-width:100%}
@media(max-width:34rem){.facts{grid-template-columns:1fr;gap:0}.facts dt{margin-top:.5rem;font-size:.82rem}
td:has(svg){width:auto}}
"""
DRAWING = (
    "In the drawings better lies to the right. The thin line is no difference, the dashed one the end of what is "
    "allowed; the bar, which is the interval, must lie wholly outside of the tinted part."
)


def gate_markdown(decision: GateDecision, about: About) -> str:
    """The document for places that show Markdown: Prefect's artifacts, MLflow, a message."""
    rows = [
        (gate_words.label(c), gate_words.found(c), gate_words.allowed(c), gate_words.verdict(c))
        for c in _ordered(decision)
    ]
    parts = (
        f"# {_plain(headline(decision, about))}",
        _plain(sentence(decision, about)),
        *map(_plain, decision.notes),
        "## What was compared",
        _rows(("", ""), compared(decision, about).items()),
        "## Checks",
        _rows(("check", "figure, or difference and interval", "allowed", "verdict"), rows),
        "## How to read this",
        reading(about),
        "\n".join(f"- **{name}**: {_plain(meaning)}" for name, meaning in measures(decision)),
        "## What follows",
        "\n".join(f"- {_plain(line)}" for line in follows(decision, about)),
    )
    return "\n\n".join(parts) + "\n"


def gate_page(decision: GateDecision, about: About, grids: Mapping[str, bytes]) -> str:
    """The document as one HTML file; `grids` are pictures as PNG by what they show. Everything told is escaped."""
    sections = (
        _verdict(decision, about),
        section("What was compared", _facts(compared(decision, about))),
        _compared(decision, about),
        _limits(decision),
        section("Pictures", "".join(_picture(*grid) for grid in grids.items())) if grids else "",
        section("What the measures are", _facts(dict(told))) if (told := measures(decision)) else "",
        section("What follows", _list(follows(decision, about))),
    )
    title, footer = f"{headline(decision, about)}: {about.model}", f"{about.model}, training {about.training}"
    return html_page(title, sections, footer, SPAN_STYLE + STYLE)


def _ordered(decision: GateDecision) -> list[Check]:
    """What decides comes first, then the guards, then the limits."""
    kinds = ("superiority", "guard", "limit")
    return sorted(decision.checks, key=lambda check: kinds.index(check.kind))


def _verdict(decision: GateDecision, about: About) -> str:
    kind = outcome(decision, about)
    notes = "".join(f"<p>{escape(note)}</p>" for note in decision.notes)
    return (
        f'<section class="verdict {kind}"><div class="badge">{kind}</div><h1>{escape(headline(decision, about))}</h1>'
        f'<p class="lead"><bdi>{escape(sentence(decision, about))}</bdi></p>{notes}</section>'
    )


def _compared(decision: GateDecision, about: About) -> str:
    checks = [check for check in _ordered(decision) if check.low is not None]
    if not checks:
        return ""
    table = _table(("measure", "difference", "interval", "verdict"), map(_row, checks), checks)
    return section(
        f"Compared with {escape(about.champion)}",
        f'{table}<p class="quiet">{escape(DRAWING)}</p><p class="quiet">{escape(reading(about))}</p>',
    )


def _row(check: Check) -> str:
    name, figure = escape(gate_words.label(check)), escape(gate_words.figure(check, check.value, signed=True))
    ends, allowed = escape(gate_words.interval(check)), escape(gate_words.allowed(check))
    return (
        f'<td>{name}<small>{gate_words.role(check)}</small></td><td class="number">{figure}</td>'
        f"<td>{span(check)}<small>{ends}</small><small>{allowed}</small></td>{_said(check)}"
    )


def _limits(decision: GateDecision) -> str:
    checks = [check for check in decision.checks if check.low is None]
    if not checks:
        return ""
    if checks[0].name == "refused":
        return section("Refused outright", _list(check.says for check in checks))
    rows = (
        f"{_cell(gate_words.label(c))}{_cell(gate_words.found(c))}{_cell(gate_words.allowed(c))}{_said(c)}"
        for c in checks
    )
    return section("By itself", _table(("measure", "figure", "allowed", "verdict"), rows, checks))


def _table(head: Sequence[str], rows: Iterable[str], checks: Sequence[Check]) -> str:
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = "".join(f'<tr class="{check.verdict}">{row}</tr>' for row, check in zip(rows, checks, strict=True))
    return f"<table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>"


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _said(check: Check) -> str:
    return f'<td class="said">{escape(gate_words.verdict(check))}</td>'


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd><bdi>{escape(value)}</bdi></dd>" for name, value in facts.items())
    return f'<dl class="facts">{rows}</dl>'


def _list(lines: Iterable[str]) -> str:
    return f'<ul class="next">{"".join(f"<li><bdi>{escape(line)}</bdi></li>" for line in lines)}</ul>'


def _picture(title: str, data: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return f'<figure><figcaption>{escape(title)}</figcaption><img alt="{escape(title)}" src="{source}"></figure>'


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = (head, ["---"] * len(head), *([_plain(cell) for cell in row] for row in rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no line of its own."""
    return re.sub(r"([\\`*_\[\]<>|#!~])", r"\\\1", " ".join(text.split()))
