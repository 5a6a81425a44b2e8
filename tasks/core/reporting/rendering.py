"""Pages and Markdown from the templates beside this module, by Jinja2."""

import base64
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 240  # characters of a client's text that are shown


def render_template(template: str, **values: Any) -> str:
    """Render a template; values in a `.html` template are escaped.

    Raises:
        jinja2.UndefinedError: the template uses a value that was not passed.
    """
    return _environment().get_template(template).render(**values)


def image(data: bytes) -> str:
    """A PNG as a data URI, so that a page is self-contained."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def plain_markdown(text: str) -> str:
    """Text escaped for Markdown: no markup, no HTML, no line break."""
    return re.sub(r"([\\`*_\[\]<>|#!~])", r"\\\1", " ".join(text.split()))


def fence(text: str) -> str:
    """A fence of code that nothing in the text closes."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))


def quoted(text: str) -> str:
    """The text as a string of Python, or of JSON, on one line."""
    return json.dumps(text, ensure_ascii=False)


def shortened(text: str) -> str:
    """At most LONGEST characters of a text."""
    return text if len(text) <= LONGEST else text[:LONGEST] + "\N{HORIZONTAL ELLIPSIS}"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"shortened": shortened, "plain": plain_markdown, "fence": fence, "quoted": quoted}
    return made
