"""The documentation is true: every setting, target and deployment is in it."""

import re

import pytest
import yaml
from pydantic import BaseModel

from tasks.core.config.base import flat
from tasks.core.config.installation import ROOT, Settings
from tasks.core.config.presets import GateSpec, GuardSpec, PolicySpec
from tasks.core.config.training import ComputeSpec


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    rows = dict(re.findall(r"\| `(DYEWORKS_\w+)` \| `?([^`|]*?)`? ?\|", text))
    assert set(rows) == {f"DYEWORKS_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default = getattr(field.default, "get_secret_value", lambda d=field.default: d)()
        told = rows[f"DYEWORKS_{name.upper()}"].strip()
        assert told == str(default) or float(told) == float(str(default)), name


@pytest.mark.parametrize(
    ("spec", "section"),
    [
        (PolicySpec, "The retrain policy"),
        (ComputeSpec, "Training by hand"),
        (GateSpec, "The gate"),
        (GuardSpec, "The storefront's guards"),
    ],
)
def test_a_specification_is_documented_with_its_defaults(spec: type[BaseModel], section: str) -> None:
    text = (ROOT / "docs/operations.md").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"\| `([a-z_.]+)` \| `([^`]+)` \|", text))
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
