"""`dyeworks models`: a configuration is checked, applied, shown, and its changes are listed."""

import json
from pathlib import Path

import pytest
import yaml

from deployments.cli.app import run
from tasks.core.config.installation import ROOT
from tasks.core.registry.models import configuration, configurations, model_names
from tasks.core.store import FolderStore

EXAMPLE = ROOT / "infra/models/adire.yaml"


def written(folder: Path, name: str = "indigo", **fields: object) -> Path:
    """A model's file."""
    values = {"name": name, "trigger": "indigo_style", "class_noun": "blue cloth"} | fields
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return folder / f"{name}.yaml"


def output(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    """The output of a successful command."""
    assert run(["models", *line]) == 0
    return capsys.readouterr().out


def test_apply_prints_the_changes_and_the_number(
    tmp_path: Path, folder: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path)
    assert output(capsys, "apply", str(file)) == "model indigo: configuration 1 applied\n"
    assert output(capsys, "apply", str(file)) == "model indigo: unchanged (configuration 1)\n"
    written(tmp_path, serving={"steps": 20}, overrides={"train": {"steps": 77}})
    changes = "preset.train.steps: 300 -> 77; serving.steps: 12 -> 20"
    assert output(capsys, "apply", str(file)) == f"model indigo: configuration 2 applied: {changes}\n"
    assert [version.number for version in configurations(folder, "indigo")] == [1, 2]
    lines = output(capsys, "history", "indigo").splitlines()
    assert [line.split("  ", 2)[::2] for line in lines] == [["1", "applied"], ["2", changes]]


def test_folder_of_configurations_is_applied_atomically(
    tmp_path: Path, folder: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path)
    written(tmp_path, "rust", datasets=["rust", "ochre"], base="some/base")
    broken = written(tmp_path, "zinc", base=5)
    assert run(["models", "apply", str(tmp_path)]) == 1
    assert f"dyeworks: {broken}: base: " in capsys.readouterr().err
    assert model_names(folder) == []
    broken.unlink()
    output(capsys, "apply", str(tmp_path))
    assert output(capsys, "list").splitlines() == [
        "indigo  configuration 1  base embedded  datasets indigo",
        "rust  configuration 1  base some/base  datasets rust, ochre",
    ]


def test_check_lists_all_faults_of_all_files_without_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DYEWORKS_STORE", str(EXAMPLE / "no-folder"))
    first = written(tmp_path, "one", triger="x", overrides={"train": {"stpes": 5}})
    second = written(tmp_path, "two", serving={"steps": 0})
    assert run(["models", "check", str(first), str(EXAMPLE), str(second)]) == 1
    out, err = capsys.readouterr()
    assert out == f"{EXAMPLE}: model adire is valid\n"
    one, two = err.splitlines()
    assert one.startswith(f"dyeworks: {first}: ")
    assert "triger: unknown key, did you mean 'trigger'?" in one
    assert "preset.train.stpes: unknown key, did you mean 'steps'?" in one
    assert two.startswith(f"dyeworks: {second}: serving.steps: ")


def test_output_of_show_can_be_applied(tmp_path: Path, folder: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, "apply", str(EXAMPLE))
    (tmp_path / "shown.yaml").write_text(output(capsys, "show", "adire"))
    assert output(capsys, "apply", str(tmp_path / "shown.yaml")) == "model adire: unchanged (configuration 1)\n"
    as_json = json.loads(output(capsys, "show", "adire", "--json"))
    assert as_json == configuration(folder, "adire").config.model_dump(mode="json")


@pytest.mark.parametrize("verb", ["show", "history"])
def test_unknown_model_is_rejected_with_the_known_ones(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, "apply", str(EXAMPLE))
    assert run(["models", verb, "blue"]) == 1
    assert capsys.readouterr().err == "dyeworks: no model 'blue'; there are adire\n"


def test_folder_without_yaml_files_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["models", "apply", str(tmp_path / "empty")]) == 1
    assert "contains no YAML file" in capsys.readouterr().err


def test_list_without_models_prints_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "list") == "no model was applied yet: dyeworks models apply FILE\n"


@pytest.mark.parametrize("command", ["apply", "check"])
def test_two_files_of_one_model_are_refused(
    command: str, tmp_path: Path, folder: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path)
    (tmp_path / "other.yaml").write_bytes(file.read_bytes())
    assert run(["models", command, str(tmp_path)]) == 1
    fault = f"dyeworks: {tmp_path / 'other.yaml'}: is of model indigo, as {file} is; keep one of the two\n"
    assert capsys.readouterr().err == fault
    assert model_names(folder) == []


def test_a_fault_is_one_line_and_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("a: [\nb: {\n")
    written(tmp_path, "b", preset="x" * 300)
    written(tmp_path, "c")
    assert run(["models", "check", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert [line.startswith("dyeworks: ") for line in shown.err.splitlines()] == [True, True]
    assert shown.out == f"{tmp_path / 'c.yaml'}: model c is valid\n"
