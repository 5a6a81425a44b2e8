"""The settings of an installation, and the targets of the Makefile."""

import re

from pydantic_settings import BaseSettings

from deployments.bootstrap import BootstrapSettings
from tasks.core.config.installation import MOVED, ROOT, Settings
from tests.reference.tables import code, field_rows, table


def settings() -> list[str]:
    """The environment variables, those of earlier versions, and the make targets."""
    return [
        "## Settings",
        "",
        f"{Settings.__doc__} What belongs to a model is in its [file](#a-models-file).",
        "",
        *_variables(Settings),
        str(BootstrapSettings.__doc__),
        "",
        *_variables(BootstrapSettings),
        "In earlier versions these were settings. Whatever is started with one of them set ends, and names the field",
        "of the model's file that replaces it.",
        "",
        *table(("earlier setting", "field"), ([code(f"DYEWORKS_{name}"), code(to)] for name, to in MOVED.items())),
        "## Make targets",
        "",
        *table(("target", "what it does"), make_targets()),
    ]


def make_targets() -> list[list[str]]:
    """Each target of the Makefile with its own words."""
    found = re.findall(r"^(\w+):.*## (.+)$", (ROOT / "Makefile").read_text(), re.M)
    return [[code(f"make {name}"), words] for name, words in found]


def _variables(kind: type[BaseSettings]) -> list[str]:
    rows = [
        [code(f"DYEWORKS_{name.strip('`').upper()}"), _portable(default), *rest]
        for name, default, *rest in field_rows(kind)
    ]
    return table(("variable", "default", "takes", "meaning"), rows)


def _portable(default: str) -> str:
    """No path of this machine."""
    return "this checkout" if str(ROOT) in default else default
