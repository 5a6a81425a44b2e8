"""The page: its parts in order, each read from the objects that it is about."""

import re

from tasks.core.config.installation import ROOT
from tests.reference.commands import commands
from tests.reference.deployments import deployments, events
from tests.reference.places import places
from tests.reference.settings import settings
from tests.reference.specifications import models, specifications
from tests.reference.tables import anchor

FILE = ROOT / "docs/reference.md"
OPENING = """\
# Reference

Generated from the code by `make docs`; do not edit it. The guides say how these are used:
[train](train.md), [drift](drift.md), [gate](gate.md), [serve](serve.md), [data](data.md), [operate](operate.md).
"""


def page() -> str:
    """The whole reference as Markdown."""
    parts = [settings(), commands(), models(), specifications(), deployments(), events(), places()]
    text = "\n".join("\n".join(part) for part in parts)
    contents = ", ".join(f"[{title}](#{anchor(title)})" for title in re.findall(r"^## (.+)$", text, re.M))
    return re.sub(r"\n{3,}", "\n\n", f"{OPENING}\nOn this page: {contents}.\n\n{text}").rstrip() + "\n"
