"""The documentation is complete: every setting, field, command, target and deployment is in it."""

import re
import textwrap
from pathlib import Path

import pytest
import typer
import yaml
from pydantic import BaseModel
from typer.core import TyperGroup

from deployments.cli.app import app
from tasks.core.config.base import flat
from tasks.core.config.installation import MOVED, ROOT, Settings
from tasks.core.config.model import ModelConfig, read_model
from tasks.core.config.presets import GateSpec, PolicySpec, RollbackSpec
from tasks.core.config.training import ComputeSpec


def section(title: str) -> str:
    """A section of the guide for operators."""
    return (ROOT / "docs/operations.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"\| `(DYEWORKS_\w+)` \| `?([^`|]*?)`? ?\|", section("Settings")))
    assert set(rows) == {f"DYEWORKS_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default = getattr(field.default, "get_secret_value", lambda d=field.default: d)()
        documented = rows[f"DYEWORKS_{name.upper()}"].strip()
        assert documented == str(default) or float(documented) == float(str(default)), name


def test_every_field_of_a_model_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"\| `([a-z_.]+)` \| `?([^`|]*?)`? ?\|", section("Models")))
    small = flat(ModelConfig(name="a", trigger="t", class_noun="n"))
    values = {name: value for name, value in small.items() if not name.startswith("preset.")}
    required = {name: "required" for name, field in ModelConfig.model_fields.items() if field.is_required()}
    assert rows == values | required | {"datasets": "", "preset": "embedded", "overrides": ""}


def test_every_earlier_setting_of_a_model_is_documented_with_its_field() -> None:
    rows = dict(re.findall(r"\| `DYEWORKS_(\w+)` \| `([a-z_.]+)` \|", section("Models")))
    assert rows == MOVED


def test_the_documented_model_is_valid(tmp_path: Path) -> None:
    for title, text in (("Models", section("Models")), ("README", (ROOT / "README.md").read_text())):
        example = re.search(r"(?:^    \S.*\n)+", text[text.index("    name: adire") :], re.M)
        assert example, title
        (tmp_path / "model.yaml").write_text(textwrap.dedent(example[0]))
        assert read_model(tmp_path / "model.yaml").preset.train.resolution == 512, title


def test_every_command_is_documented() -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    text = (ROOT / "docs/operations.md").read_text()
    for name, found in command.commands.items():
        assert f"| `dyeworks {name}` |" in section("The command `dyeworks`")
        for verb in found.commands if isinstance(found, TyperGroup) else ():
            assert f"dyeworks {name} {verb}" in text or f"`{verb}`" in text, f"{name} {verb}"


def test_every_documented_command_exists() -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    for file in ("README.md", "docs/operations.md", "CONTRIBUTING.md", "prefect.yaml", "infra/models/adire.yaml"):
        text = (ROOT / file).read_text()
        for name, verb in re.findall(r"(?:^    |[`/]|^#   )dyeworks ([a-z]+)(?: ([a-z]+)\b)?", text, re.M):
            assert name in command.commands, file
            found = command.commands[name]
            assert not isinstance(found, TyperGroup) or not verb or verb in found.commands, f"{file}: {name} {verb}"


@pytest.mark.parametrize(
    ("spec", "title"),
    [
        (PolicySpec, "The retrain policy"),
        (ComputeSpec, "Training by hand"),
        (GateSpec, "The gate"),
        (RollbackSpec, "Automatic roll-back"),
    ],
)
def test_a_specification_is_documented_with_its_defaults(spec: type[BaseModel], title: str) -> None:
    rows = dict(re.findall(r"\| `([a-z_.]+)` \| `([^`]+)` \|", section(title)))
    assert rows == flat(spec())


def test_every_make_target_is_documented() -> None:
    targets = re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    readme = (ROOT / "README.md").read_text()
    assert len(targets) <= 12
    assert [t for t in targets if f"`{t}`" not in readme and f"make {t}" not in readme] == []


def test_every_deployment_is_in_the_readme() -> None:
    names = [d["name"] for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]]
    readme = (ROOT / "README.md").read_text()
    assert [name for name in names if f"`{name}`" not in readme] == []


def test_every_flow_has_a_deployment() -> None:
    names = {d["name"] for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert names == {p.stem.replace("_", "-") for p in (ROOT / "flows").glob("[a-z]*.py")}
