"""Templates: a value that is missing is an error, and what a client wrote stays text."""

import re

import pytest
from jinja2 import UndefinedError
from markdown_it import MarkdownIt

from tasks.core.reporting.rendering import LONGEST, TEMPLATES, image, plain_markdown, render_template, shortened

ATTACK = '<script>alert("1")</script>&"`x`[y](https://evil.example)|~~z~~\n# heading\n![p](q)'


@pytest.mark.parametrize("template", sorted(path.name for path in TEMPLATES.iterdir() if path.suffix != ".css"))
def test_a_template_without_its_values_is_an_error(template: str) -> None:
    if template in ("base.html", "macros.html"):
        assert "<script" not in render_template(template)
    else:
        with pytest.raises(UndefinedError):
            render_template(template)


def test_nothing_is_exempt_from_escaping() -> None:
    for path in TEMPLATES.iterdir():
        assert not re.search(r"\|\s*safe|autoescape|Markup|<script|\son\w+=|style=\"", path.read_text()), path.name


def test_markdown_shows_plain_text_as_it_is() -> None:
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(f"| a |\n| --- |\n| {plain_markdown(ATTACK)} |\n")
    assert not re.search(r"<(script|a|code|img|s|h1)\b", shown)
    assert shown.count("<td>") == 1


def test_a_long_text_is_shortened_and_a_picture_is_inside() -> None:
    assert shortened("x" * LONGEST) == "x" * LONGEST
    assert shortened("x" * (LONGEST + 1)) == "x" * LONGEST + "\u2026"
    assert image(b"png") == "data:image/png;base64,cG5n"
