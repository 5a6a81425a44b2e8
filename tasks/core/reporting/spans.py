"""The interval of a check as a small drawing: how it lies to no difference, and to what is allowed."""

from html import escape

from tasks.core.checks import Check
from tasks.core.reporting.words import allowed, found
from tasks.core.scores import LESS_IS_BETTER

WIDTH, HEIGHT, EDGE = 220, 30, 8  # units of the drawing
REACH = 2.0  # margins to either side
STYLE = """
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
