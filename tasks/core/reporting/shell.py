"""What all pages share: one HTML file that needs nothing beside itself, loads nothing and runs nothing."""

from collections.abc import Iterable
from html import escape

from tasks.core.reporting.style import STYLE

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
LONGEST = 240  # characters of a stranger's text that are shown


def html_page(title: str, sections: Iterable[str], footer: str, style: str = "") -> str:
    """The whole file; `sections` are HTML, title and footer are text."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style>"
    )
    body = f"<main>{''.join(sections)}<footer>{escape(footer)}</footer></main>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def section(title: str, content: str) -> str:
    """A card with a heading."""
    return f"<section><h2>{title}</h2>{content}</section>"


def shown(text: str) -> str:
    """A stranger's words, shortened: they run in their own direction and cannot turn the text around them."""
    return f"<bdi>{escape(text if len(text) <= LONGEST else text[:LONGEST] + chr(0x2026))}</bdi>"
