"""What all pages share: one HTML file that needs nothing beside itself, loads nothing and runs nothing."""

from collections.abc import Iterable
from html import escape

STYLE = """
:root{color-scheme:light dark;--ground:#f5f6f8;--card:#fff;--ink:#1d2433;--quiet:#5d6678;--line:#dfe3ea;--link:#2f5bb7;
--stable:#2e7d5b;--warn:#96610f;--retrain:#c0392b;--other:#5d6678;--soft:#eef2fa}
@media(prefers-color-scheme:dark){:root{--ground:#12161d;--card:#1b2029;--ink:#e6e9ef;--quiet:#9aa4b5;--line:#333b49;
--link:#8fb3f7;--stable:#62c296;--warn:#e2b252;--retrain:#f0857a;--other:#9aa4b5;--soft:#242b37}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:46rem;margin:0 auto;padding:2rem 1rem 3rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1.2rem 1.4rem;margin-top:1rem}
h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0}h2{font-size:1.1rem;margin:0 0 .6rem}p{margin:.4rem 0}
a{color:var(--link)}img{display:block;width:100%;max-width:38rem;height:auto;margin:0 auto}
.quiet,footer{color:var(--quiet);font-size:.9rem}footer{margin-top:1.5rem}.lead{font-size:1.08rem}
.verdict{border-left:.35rem solid var(--tone)}.badge{color:var(--tone);font-weight:600;font-size:.9rem}
.stable{--tone:var(--stable)}.warn{--tone:var(--warn)}.retrain{--tone:var(--retrain)}
.provisional,.insufficient_data{--tone:var(--other)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(4.9rem,1fr));gap:.7rem;margin:1.1rem 0 .2rem}
dt{color:var(--quiet);font-size:.82rem;line-height:1.3}dd{margin:0;font-size:1.25rem;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;margin-top:.8rem}
th{text-align:left;color:var(--quiet);font-size:.82rem;font-weight:400;vertical-align:bottom;white-space:nowrap}
td,th{padding:.6rem .8rem .6rem 0;border-top:1px solid var(--line);vertical-align:top}thead th{border-top:0}
td.number{white-space:nowrap;font-variant-numeric:tabular-nums}td:first-child{width:55%}
ul{margin:.3rem 0 0;padding:0;list-style:none}li{margin:.25rem 0}
.prompts li{background:var(--soft);border-radius:.4rem;padding:.25rem .6rem}
.missing{color:var(--retrain);font-weight:600}
@media(max-width:34rem){main{padding:1rem .6rem 2rem}section{padding:.9rem .75rem}h1{font-size:1.35rem}
thead{display:none}tr{display:block;border-top:1px solid var(--line);padding:.6rem 0}tbody tr:first-child{border-top:0}
td,td:first-child{display:block;width:auto;border:0;padding:.15rem 0}
td[data-name]::before{content:attr(data-name) ": ";color:var(--quiet)}}
"""

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
