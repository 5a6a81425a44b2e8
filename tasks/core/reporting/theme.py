"""The canvas of the plots: sizes, colours for a light and a dark page, and PNG output. No state is shared."""

import io
import warnings
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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


def canvas(height: float, theme: Theme) -> tuple[Figure, Axes]:
    """A figure of `height` inches with one pair of plain axes."""
    figure = Figure(figsize=(WIDTH, height), dpi=DOTS, facecolor=theme.ground, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.ground)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.line)
    axes.tick_params(colors=theme.quiet, labelsize=9.5, length=0)
    for label in (axes.xaxis.label, axes.yaxis.label, axes.xaxis.get_offset_text()):
        label.set(color=theme.quiet, fontsize=9.5)
    return figure, axes


def legend(axes: Axes, theme: Theme, columns: int) -> None:
    """Draw the legend above the axes."""
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 1.0), "borderaxespad": 0.2}
    axes.legend(ncols=columns, frameon=False, fontsize=9.5, labelcolor=theme.ink, handlelength=1.2, **place)


def note(
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


def png(figure: Figure) -> bytes:
    """The figure as PNG, deterministic. Characters that the font lacks become boxes, silently."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()
