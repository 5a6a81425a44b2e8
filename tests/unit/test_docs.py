"""The documentation is complete and true: the reference is generated, and no link, command or sentence is stray."""

import re
import textwrap
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tasks.core.config.base import flat
from tasks.core.config.installation import MOVED, ROOT, Settings
from tasks.core.config.model import ModelConfig, read_model
from tasks.core.config.presets import Preset
from tasks.core.events import PAYLOADS
from tests.reference.commands import walk
from tests.reference.deployments import declared, request
from tests.reference.page import FILE, page
from tests.reference.tables import anchor

README = ROOT / "README.md"
GUIDES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in ("reference.md", "map.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^    |[`/]|^#   |\.venv/bin/)dyeworks ([a-z]+)(?: ([a-z]+)\b)?", re.M)
SENTENCE = re.compile(r"[^.!?:|]{60,}[.!?:]")


def section(title: str, level: str = "##") -> str:
    """A section of the reference, with its heading's own text."""
    found = re.search(rf"^{level} {re.escape(title)}\n(.*?)(?=^#{{2,{len(level)}}} |\Z)", FILE.read_text(), re.M | re.S)
    assert found, title
    return found[1]


def rows(text: str) -> dict[str, str]:
    """The first two cells of each row of the section's tables, without their backticks."""
    return dict(re.findall(r"^\| `([^`]+)` \| `?([^`|]*?)`? ?\|", text, re.M))


def prose(path: Path) -> str:
    """The text of a page without its code."""
    return re.sub(r"^```.*?^```|^ {4}.*?$|`[^`\n]*`", "", path.read_text(), flags=re.M | re.S)


def test_the_reference_is_what_the_code_says() -> None:
    assert FILE.read_text() == page(), "run `make docs`"


def test_every_setting_is_documented_with_its_default() -> None:
    found = rows(section("Settings"))
    assert set(found) >= {f"DYEWORKS_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default = getattr(field.default, "get_secret_value", lambda d=field.default: d)()
        documented = found[f"DYEWORKS_{name.upper()}"].strip()
        assert documented == str(default) or float(documented) == float(str(default)), name


def test_every_setting_that_the_code_reads_is_documented() -> None:
    found = rows(section("Settings"))
    sources = [path for folder in ("tasks", "deployments", "flows") for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r"DYEWORKS_([A-Z_]*[A-Z])\b", path.read_text())}
    assert sorted(f"DYEWORKS_{name}" for name in named if f"DYEWORKS_{name}" not in found) == []


def test_every_field_of_a_model_is_documented_with_its_default() -> None:
    found = rows(section("A model's file"))
    small = flat(ModelConfig(name="a", trigger="t", class_noun="n"))
    names = {name for name in small if not name.startswith("preset.")} | {"preset", "overrides"}
    required = {name for name, field in ModelConfig.model_fields.items() if field.is_required()}
    assert set(found) == names
    assert {name for name, default in found.items() if default == "required"} == required
    for name in names - required - {"preset", "overrides", "datasets"}:
        shown = re.sub(r"\.0$|^None$", "", small[name]).replace("()", "[]")
        assert str(yaml.safe_load(found[name] or "''")).lower() == shown.lower(), name


def test_every_earlier_setting_of_a_model_is_documented_with_its_field() -> None:
    found = rows(section("Settings"))
    assert {name: found[f"DYEWORKS_{name}"] for name in MOVED} == MOVED


@pytest.mark.parametrize("name", Preset.model_fields)
def test_every_field_of_a_specification_is_documented_with_its_default(name: str) -> None:
    spec, found = getattr(Preset(), name), rows(section(name, "###"))
    for field, default in found.items():
        value = spec
        for part in field.split("."):
            value = getattr(value, part)
        value = list(value) if isinstance(value, tuple) else getattr(value, "version", value)
        if isinstance(value, float):
            value = pytest.approx(value, rel=1e-3)
        assert (default if isinstance(value, str) else yaml.safe_load(default)) == value, field
    assert set(found) == {re.sub(r"^prompts\..*", "prompts", field) for field in flat(spec)}


def test_the_documented_model_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "docs/getting-started.md").read_text()
    example = re.search(r"(?:^    \S.*\n)+", text[text.index("    name: adire") :], re.M)
    assert example
    (tmp_path / "model.yaml").write_text(textwrap.dedent(example[0]))
    assert read_model(tmp_path / "model.yaml").preset.train.resolution == 512


def test_every_command_is_documented_with_its_options() -> None:
    for name, command in walk():
        text = section(name, "###")
        options = [option for p in command.params for option in p.opts if option.startswith("--")]
        assert [option for option in options if f"| `{option}" not in text] == [], name


def test_every_documented_command_exists() -> None:
    known = {name for name, _ in walk()} | {"dyeworks COMMAND"}
    groups = {name.split()[1] for name in known if len(name.split()) == 3}
    for file in [
        README,
        FILE,
        *GUIDES,
        ROOT / "CONTRIBUTING.md",
        ROOT / "prefect.yaml",
        ROOT / "infra/models/adire.yaml",
    ]:
        for name, verb in COMMAND.findall(file.read_text()):
            whole = f"dyeworks {name} {verb}" if name in groups and verb else f"dyeworks {name}"
            assert whole in known or (name in groups and not verb), f"{file.name}: {whole}"


def test_every_make_target_is_documented() -> None:
    targets = re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    assert len(targets) <= 12
    found = re.findall(r"^\| `make (\w+)` \|", section("Make targets"), re.M)
    assert sorted(found) == sorted(targets)


def test_every_deployment_is_in_the_readme_and_in_the_reference() -> None:
    readme = README.read_text()
    for deployment in declared():
        assert f"`{deployment['name']}`" in readme, deployment["name"]
        fields = set(rows(section(deployment["name"], "###")))
        assert fields == set(request(deployment).model_fields), deployment["name"]


def test_every_event_is_documented_with_its_payload() -> None:
    for name, payload in PAYLOADS.items():
        own = set(payload.model_fields) - {"reason", "schema_version"}
        assert set(re.findall(r"^\| `(\w+)` \|", section(name, "###"), re.M)) == own, name


def test_every_flow_has_a_deployment() -> None:
    names = {deployment["name"] for deployment in declared()}
    assert names == {p.stem.replace("_", "-") for p in (ROOT / "flows").glob("[a-z]*.py")}


def test_every_guide_is_linked_from_the_readme() -> None:
    readme = README.read_text()
    assert [path.name for path in GUIDES if f"(docs/{path.name})" not in readme] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) < 200


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    for link in LINK.findall(path.read_text()):
        file, _, place = link.partition("#")
        if "://" in file:
            continue
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name}: {link}"
        if place:
            titles = re.findall(r"^#{1,6} (.+)$", target.read_text(), re.M)
            assert place in map(anchor, titles), f"{path.name}: {link}"


def test_no_page_has_two_headings_of_one_name() -> None:
    for path in [README, FILE, *GUIDES]:
        titles = Counter(map(anchor, re.findall(r"^#{1,6} (.+)$", path.read_text(), re.M)))
        assert [title for title, count in titles.items() if count > 1] == [], path.name


def test_no_sentence_of_the_guides_is_there_twice() -> None:
    texts = [" ".join(prose(path).split()) for path in [README, *GUIDES]]
    sentences = Counter(found.strip() for text in texts for found in SENTENCE.findall(text))
    assert len(sentences) > 300
    assert [sentence for sentence, count in sentences.items() if count > 1] == []
    reference = " ".join(prose(FILE).split())
    assert [sentence for sentence in sentences if sentence in reference] == []
