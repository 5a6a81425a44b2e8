"""The plots of a drift check, each as PNG bytes, in colours for a light and for a dark page."""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tasks.core.config.drift import DriftSpec
from tasks.core.drift.detector import Distribution, DriftReport, Verdict
from tasks.core.drift.explain import Topic
from tasks.core.monitoring.records import DriftRecord
from tasks.core.reporting.rendering import image

MARKS = {"stable": "o", "warn": "^", "retrain": "D", "insufficient_data": "x"}
NAMES = {"stable": "stable", "warn": "warning", "retrain": "retrain", "insufficient_data": "too few to judge"}
MOST_TOPICS = 8
LABEL = 44  # characters
MINUTE = 1 / 1440  # days
Checked = tuple[DriftRecord, DriftReport]
WIDTH = 5.4  # inches: text of 9.5 points stays legible on a phone
DOTS = 170  # an inch


@dataclass(frozen=True)
class Theme:
    """Colours that match the page's, so that plots need no frame."""

    ground: str
    ink: str
    quiet: str
    line: str
    reference: str
    window: str
    verdicts: dict[str, str] = field(hash=False)


LIGHT = Theme(
    ground="#ffffff",
    ink="#1d2433",
    quiet="#5d6678",
    line="#dfe3ea",
    reference="#a9b1bf",
    window="#2f5bb7",
    verdicts={"stable": "#2e7d5b", "warn": "#b7791f", "retrain": "#c0392b", "insufficient_data": "#8a93a3"},
)
DARK = Theme(
    ground="#1b2029",
    ink="#e6e9ef",
    quiet="#9aa4b5",
    line="#333b49",
    reference="#667085",
    window="#7fa7f5",
    verdicts={"stable": "#62c296", "warn": "#e2b252", "retrain": "#f0857a", "insufficient_data": "#8a93a3"},
)


@dataclass(frozen=True)
class Plot:
    """A plot as data URIs, for a light page and for a dark one."""

    text: str  # alt text
    light: str
    dark: str


def plot(text: str, draw: Callable[[Theme], bytes]) -> Plot:
    """Draw a plot for both pages."""
    return Plot(text, image(draw(LIGHT)), image(draw(DARK)))


def distribution_plot(found: Distribution, theme: Theme = LIGHT) -> bytes:
    """Distribution of the scores of window and reference, with the last decile of the reference marked."""
    figure, axes = _canvas(2.9, theme)
    edges, most = found.edges, max(*found.reference, *found.current)
    axes.stairs(found.reference, edges, fill=True, color=theme.reference, alpha=0.75, label="reference")
    axes.stairs(found.current, edges, color=theme.window, linewidth=2, label="this window")
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.22 * most), ylabel="share of requests")
    axes.set_xlabel("like the reference  \u2190  score, in standard deviations  \u2192  new")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    _tail(axes, found, 1.19 * most, theme)
    _legend(axes, theme, 2)
    return _png(figure)


def history_plot(records: Sequence[DriftRecord], spec: DriftSpec, theme: Theme = LIGHT) -> bytes:
    """PSI over time of all records that have a report, with the two thresholds; one line per generation."""
    figure, axes = _canvas(3.2, theme)
    checked = [(r, r.drift) for r in sorted(records, key=lambda r: r.time) if r.drift]
    low, high = min(0.0, *(d.psi for _, d in checked)), max(1.3 * spec.retrain_psi, *(d.psi for _, d in checked))
    axes.set_ylim(low - 0.08 * (high - low), high + 0.17 * (high - low))
    _time_axis(axes, _days(checked[0][0].time), _days(checked[-1][0].time))
    _thresholds(axes, spec, theme)
    for generation in dict.fromkeys(r.generation for r, _ in checked):
        x, y = zip(*((_days(r.time), d.psi) for r, d in checked if r.generation == generation), strict=True)
        axes.plot(x, y, color=theme.reference, linewidth=1.2, zorder=1)
    _generations(axes, checked, theme)
    _points(axes, checked, theme)
    axes.set_ylabel("PSI")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    _legend(axes, theme, 4)
    return _png(figure)


def topics_plot(topics: Sequence[Topic], theme: Theme = LIGHT) -> bytes:
    """The clusters that grew most: their share of the reference against their share of the window."""
    grown = sorted(topics, key=lambda t: t.share_reference - t.share_current)[:MOST_TOPICS]
    figure, axes = _canvas(0.75 + 0.72 * len(grown), theme)
    rows = np.arange(len(grown), dtype=float)
    most = max(max(t.share_current, t.share_reference) for t in grown)
    for offset, colour, name in ((0.04, theme.reference, "reference"), (0.3, theme.window, "this window")):
        shares = [t.share_reference if name == "reference" else t.share_current for t in grown]
        bars = axes.barh(rows + offset, shares, 0.24, color=colour, label=name)
        axes.bar_label(bars, [_percent(s) for s in shares], padding=4, color=theme.ink, fontsize=9.5)
    for row, topic in zip(rows, grown, strict=True):  # clients' text: "$" is no formula
        axes.text(0, row - 0.15, _label(topic), color=theme.ink, fontsize=10.5, va="bottom", parse_math=False)
    axes.set(ylim=(len(grown) - 0.45, -0.5), xlim=(0, 1.15 * most), yticks=[], xticks=[])
    axes.spines["bottom"].set_visible(False)
    _legend(axes, theme, 2)
    return _png(figure)


def _tail(axes: Axes, found: Distribution, top: float, theme: Theme) -> None:
    """Mark the last decile of the reference, with the window's share beyond it."""
    first, last = found.edges[0], found.edges[-1]
    decile = float(np.interp(0.9, np.cumsum([0.0, *found.reference]), found.edges))
    beyond = 1 - float(np.interp(decile, found.edges, np.cumsum([0.0, *found.current])))
    axes.axvspan(decile, last, color=theme.window, alpha=0.1, linewidth=0, zorder=0)
    axes.axvline(decile, color=theme.ink, linewidth=1, linestyle=(0, (3, 3)))
    text = f"beyond this line:\n10% of the reference,\n{beyond:.0%} of this window"
    _note(axes, text, (decile, top), theme.ink, va="top", before=last - decile < 0.35 * (last - first))


def _days(time: datetime) -> float:
    return float(date2num(time))


def _time_axis(axes: Axes, begin: float, end: float) -> None:
    """Date ticks for a span in days, from minutes to months, UTC."""
    edge = max((end - begin) * 0.03, MINUTE if end > begin else 30 * MINUTE)
    axes.set_xlim(begin - edge, end + edge)
    locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))


def _thresholds(axes: Axes, spec: DriftSpec, theme: Theme) -> None:
    for verdict, value, side in (("retrain", spec.retrain_psi, "bottom"), ("warn", spec.warn_psi, "top")):
        colour = theme.verdicts[verdict]
        axes.axhline(value, color=colour, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        _note(axes, f"{verdict} {value:g}", (1, value), colour, va=side, along="axes fraction")


def _generations(axes: Axes, checked: Sequence[Checked], theme: Theme) -> None:
    """Mark the start of each generation's reference; labelled if there is room."""
    left, right = axes.get_xlim()
    begins = [checked[0][0], *(b for (a, _), (b, _) in pairwise(checked) if a.generation != b.generation)]
    free = left
    for record in begins:
        place = _days(record.time)
        axes.axvline(place, color=theme.line, linewidth=1, zorder=0)
        if place >= free:
            text, room = (f" {record.generation}", 0.06) if free > left else (_reference(record), 0.42)
            axes.text(place, 0.985, text, transform=axes.get_xaxis_transform(), va="top", color=theme.quiet, fontsize=9)
            free = place + room * (right - left)


def _reference(record: DriftRecord) -> str:
    return f" reference of generation {record.generation}"


def _points(axes: Axes, checked: Sequence[Checked], theme: Theme) -> None:
    size = 36 if len(checked) <= 100 else 12
    foreign = sorted({d.verdict for _, d in checked} - set(get_args(Verdict)))  # of a later version
    for verdict in (*MARKS, *foreign):
        mine = [(_days(r.time), d.psi) for r, d in checked if d.verdict == verdict]
        if mine:
            x, y = zip(*mine, strict=True)
            colour, name = theme.verdicts.get(verdict, theme.ink), NAMES.get(verdict, verdict.replace("_", " "))
            axes.scatter(x, y, s=size, marker=MARKS.get(verdict, "s"), color=colour, label=name, zorder=2)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share == 0 or share >= 0.01 else "under 1%"


def _label(topic: Topic) -> str:
    words = ", ".join(topic.terms[:4]) or next(iter(topic.medoids), "(no words)")
    return words if len(words) <= LABEL else words[: LABEL - 1] + "\u2026"


def _canvas(height: float, theme: Theme) -> tuple[Figure, Axes]:
    """A figure of `height` inches with one pair of axes, quiet ones."""
    figure = Figure(figsize=(WIDTH, height), dpi=DOTS, facecolor=theme.ground, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.ground)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.line)
    axes.tick_params(colors=theme.quiet, labelsize=9.5, length=0)
    for label in (axes.xaxis.label, axes.yaxis.label, axes.xaxis.get_offset_text()):
        label.set(color=theme.quiet, fontsize=9.5)
    return figure, axes


def _legend(axes: Axes, theme: Theme, columns: int) -> None:
    """Draw the legend above the axes."""
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 1.0), "borderaxespad": 0.2}
    axes.legend(ncols=columns, frameon=False, fontsize=9.5, labelcolor=theme.ink, handlelength=1.2, **place)


def _note(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    colour: str,
    *,
    va: str,
    before: bool = False,
    along: str = "data",
) -> None:
    """A text after or `before` a point; `along` is the coordinate system of its x."""
    side, step = ("right", -5) if before else ("left", 5)
    axes.annotate(
        text,
        place,
        xycoords=(along, "data"),
        xytext=(step, 0),
        textcoords="offset points",
        ha=side,
        va=va,
        color=colour,
        fontsize=9.5,
    )


def _png(figure: Figure) -> bytes:
    """The picture; the same figure gives the same bytes. A sign that the font lacks becomes a box, silently."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()
