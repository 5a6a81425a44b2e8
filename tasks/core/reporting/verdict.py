"""The gate's decision as a document for whoever was not there: Markdown for Prefect, one HTML file for everybody."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from tasks.core.checks import Check
from tasks.core.gate import Decision
from tasks.core.reporting import spans, words
from tasks.core.reporting.account import (
    About,
    compared,
    follows,
    headline,
    measures,
    outcome,
    reading,
    sentence,
)
from tasks.core.reporting.shell import html_page, section

__all__ = ["About", "verdict_markdown", "verdict_page"]

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


def verdict_markdown(decision: Decision, about: About) -> str:
    """The document for places that show Markdown: Prefect's artifacts, MLflow, a message."""
    rows = [(words.label(c), words.found(c), words.allowed(c), words.verdict(c)) for c in _ordered(decision)]
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


def verdict_page(decision: Decision, about: About, grids: Mapping[str, bytes]) -> str:
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
    return html_page(title, sections, footer, spans.STYLE + STYLE)


def _ordered(decision: Decision) -> list[Check]:
    """What decides comes first, then the guards, then the limits."""
    kinds = ("superiority", "guard", "limit")
    return sorted(decision.checks, key=lambda check: kinds.index(check.kind))


def _verdict(decision: Decision, about: About) -> str:
    kind = outcome(decision, about)
    notes = "".join(f"<p>{escape(note)}</p>" for note in decision.notes)
    return (
        f'<section class="verdict {kind}"><div class="badge">{kind}</div><h1>{escape(headline(decision, about))}</h1>'
        f'<p class="lead"><bdi>{escape(sentence(decision, about))}</bdi></p>{notes}</section>'
    )


def _compared(decision: Decision, about: About) -> str:
    checks = [check for check in _ordered(decision) if check.low is not None]
    if not checks:
        return ""
    table = _table(("measure", "difference", "interval", "verdict"), map(_row, checks), checks)
    return section(
        f"Compared with {escape(about.champion)}",
        f'{table}<p class="quiet">{escape(DRAWING)}</p><p class="quiet">{escape(reading(about))}</p>',
    )


def _row(check: Check) -> str:
    name, figure = escape(words.label(check)), escape(words.figure(check, check.value, signed=True))
    ends, allowed = escape(words.interval(check)), escape(words.allowed(check))
    return (
        f'<td>{name}<small>{words.role(check)}</small></td><td class="number">{figure}</td>'
        f"<td>{spans.span(check)}<small>{ends}</small><small>{allowed}</small></td>{_said(check)}"
    )


def _limits(decision: Decision) -> str:
    checks = [check for check in decision.checks if check.low is None]
    if not checks:
        return ""
    if checks[0].name == "refused":
        return section("Refused outright", _list(check.says for check in checks))
    rows = (f"{_cell(words.label(c))}{_cell(words.found(c))}{_cell(words.allowed(c))}{_said(c)}" for c in checks)
    return section("By itself", _table(("measure", "figure", "allowed", "verdict"), rows, checks))


def _table(head: Sequence[str], rows: Iterable[str], checks: Sequence[Check]) -> str:
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = "".join(f'<tr class="{check.verdict}">{row}</tr>' for row, check in zip(rows, checks, strict=True))
    return f"<table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>"


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _said(check: Check) -> str:
    return f'<td class="said">{escape(words.verdict(check))}</td>'


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
