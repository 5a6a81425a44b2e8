"""`dyeworks data`: versions are listed, shown, compared, pinned and exported."""

import json
from pathlib import Path

import pytest

from deployments.cli.app import run
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.data.dataset import Manifest
from tasks.core.data.ingest import ingest
from tasks.core.errors import DatasetUnusable
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.odd_pictures import encoded, noise

pytestmark = pytest.mark.usefixtures("applied")
EVIL = "\x1b[31mred\x1b[0m"


def version(store: FolderStore, *numbers: int, caption: str = "rings") -> Manifest:
    for number in numbers:
        store.write(f"uploads/adire/{number}.png", encoded(noise(number)))
        store.write(f"uploads/adire/{number}.txt", caption.encode())
    return ingest(store, "adire", IngestSpec())[0]


def output(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    """What a successful command prints."""
    assert run(["data", *line]) == 0
    return capsys.readouterr().out


def test_versions_are_listed_with_what_they_are(folder: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "list") == "dataset adire has no version yet\n"
    first, second = version(folder, 1), version(folder, 2, 3)
    output(capsys, "pin", first.version[:9], "--actor", "ada", "--reason", "the autumn show")
    lines = output(capsys, "list").splitlines()
    assert lines[0].startswith(f"{first.version}  {first.created:%Y-%m-%d %H:%M}  1 pictures  1 new  pinned for adire")
    assert lines[1].endswith("3 pictures  2 new  newest")
    found = json.loads(output(capsys, "list", "--json"))
    assert [one["version"] for one in found["versions"]] == [first.version, second.version]
    assert (found["versions"][0]["pinned"], found["versions"][1]["newest"]) == (["adire"], True)
    assert found["failed"] is None
    output(capsys, "unpin")
    assert "pinned" not in output(capsys, "list")


def test_the_last_ingest_that_failed_is_listed_until_one_succeeds(
    folder: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    version(folder, 1)
    with pytest.raises(DatasetUnusable):
        ingest(folder, "adire", IngestSpec(min_pictures=2))
    assert "the last ingest made no version, 2" in output(capsys, "list")
    found = json.loads(output(capsys, "list", "--json"))["failed"]
    assert found["faults"] == ["1 usable picture, ingest.min_pictures expects 2"]
    version(folder, 2)
    assert "made no version" not in output(capsys, "list")


def test_a_version_is_shown_with_its_pictures(folder: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    first = version(folder, 1, caption=EVIL)
    folder.write("uploads/adire/grey.png", encoded(noise(9).convert("L")))
    second = version(folder, 2)
    shown = output(capsys, "show")
    assert shown.startswith(f"dataset adire version {second.version}, ")
    assert f", after {first.version}\n3 pictures, 2 new, 0 forgotten\n" in shown
    assert "\x1b" not in shown
    assert "  grey.png  a picture of cloth in {trigger}  [" in shown
    assert "1 picture without a caption given the instance prompt" in shown
    assert "remark" not in output(capsys, "show", first.version)
    found = json.loads(output(capsys, "show", "newest", "--json"))
    assert {item["name"] for item in found["items"]} == {"1.png", "2.png", "grey.png"}
    assert found["remarks"]


def test_two_versions_are_compared(folder: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    first = version(folder, 1, 2)
    folder.delete("uploads/adire/1.png")
    folder.delete("uploads/adire/1.txt")
    version(folder, 2, 3, caption="dots")
    lines = output(capsys, "diff", first.version).splitlines()
    assert lines[0].endswith(": 1 added, 1 removed, 1 captions changed")
    assert [line[0] for line in lines[1:]] == ["+", "-", "~"]
    assert lines[3].endswith("2.png  rings -> dots")
    found = json.loads(output(capsys, "diff", first.version, "newest", "--json"))
    assert [one["name"] for one in found["added"] + found["removed"]] == ["3.png", "1.png"]
    assert [(one["before"], one["caption"]) for one in found["captions"]] == [("rings", "dots")]


def test_a_version_is_exported(folder: FolderStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, out = version(folder, 1), tmp_path / "out"
    version(folder, 2)
    printed = output(capsys, "export", str(out), "--version", first.version)
    assert printed == f"dataset adire version {first.version} exported to {out}: 1 in train\n"
    assert "license: creativeml-openrail-m" in (out / "README.md").read_text()
    assert run(["data", "export", str(out)]) == 1
    assert "is no empty folder" in capsys.readouterr().err


def test_the_licence_of_an_export_is_named_where_the_models_differ(
    folder: FolderStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version(folder, 1)
    apply_config(folder, adire(name="batik", datasets=["adire"], licence="mit"))
    assert run(["data", "export", str(tmp_path / "out")]) == 1
    assert "--licence: the models of dataset adire have creativeml-openrail-m, mit; name one" in capsys.readouterr().err
    output(capsys, "export", str(tmp_path / "out"), "--model", "batik")
    assert "license: mit" in (tmp_path / "out/README.md").read_text()
    output(capsys, "export", str(tmp_path / "other"), "--licence", "cc0-1.0")
    assert "license: cc0-1.0" in (tmp_path / "other/README.md").read_text()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (["show", "nothing"], "has no version 'nothing'; see `dyeworks data list`"),
        (["show", "pinned"], "model 'adire' has no version of it pinned"),
        (["list", "--dataset", "../x"], "no model subscribes to it; datasets of the models: adire"),
        (["pin", "0000"], "has no version '0000'"),
        (["unpin", "--model", "batik"], "no model 'batik'; there are adire"),
        (["diff", "newest", "--dataset", "cloth"], "has no version yet"),
    ],
)
def test_what_does_not_exist_is_named(
    folder: FolderStore, capsys: pytest.CaptureFixture[str], line: list[str], problem: str
) -> None:
    version(folder, 1)
    assert run(["data", *line]) == 1
    assert problem in capsys.readouterr().err


def test_a_model_is_named_where_there_are_several(
    folder: FolderStore, capsys: pytest.CaptureFixture[str], applied: ModelConfig
) -> None:
    version(folder, 1)
    apply_config(folder, adire(name="batik", datasets=["adire"]))
    assert run(["data", "pin", "newest"]) == 1
    assert "name a model; there are adire, batik" in capsys.readouterr().err
    output(capsys, "pin", "newest", "--model", "batik")
    assert output(capsys, "list").endswith("newest, pinned for batik\n")
    assert run(["data", "show", "pinned", "--model", applied.name]) == 1
