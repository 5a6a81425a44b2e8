"""The command `dyeworks`: help, exit codes, and errors in one line."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from deployments.cli.app import app, run
from tasks.core.config.installation import MOVED, ROOT
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire

DYEWORKS = str(Path(sys.executable).with_name("dyeworks"))
HEAVY = {"torch", "mlflow", "prefect", "gradio", "diffusers", "open_clip", "evidently"}


def groups() -> Iterator[list[str]]:
    """The command lines of the command, its groups and its commands."""
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    yield []
    for name, found in command.commands.items():
        yield [name]
        if isinstance(found, TyperGroup):
            yield from ([name, verb] for verb in found.commands)


@pytest.mark.parametrize("line", list(groups()), ids=" ".join)
def test_every_command_has_a_one_line_help(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*line, "--help"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"Usage: {' '.join(['dyeworks', *line])} ")
    assert "..." not in output.partition("Commands:")[2], "a first sentence is too long for the list of commands"


def test_the_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    output = capsys.readouterr().out
    assert all(f" {code} " in output for code in (0, 1, 2, 130, 143))


def test_version_option_prints_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert f'version = "{capsys.readouterr().out.strip()}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "line",
    [
        ["paint"],
        ["models"],
        ["models", "show"],
        ["models", "show", "adire", "--jsn"],
        ["drift", "pin", "three"],
        ["train", "embedded"],
        ["serve", "gallery"],
        ["serve", "gateway", "--model", "adire"],
        ["outbox", "resend", "--count", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line) == 2
    assert "Usage: dyeworks" in "".join(capsys.readouterr())


def failed(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a failing command prints."""
    assert run(line) == 1
    (output,) = capsys.readouterr().err.splitlines()
    assert output.startswith("dyeworks: ")
    return output


@pytest.mark.parametrize("line", [["drift", "references"], ["replay"], ["drift", "pin", "1"]], ids=" ".join)
def test_model_option_defaults_to_the_only_model_and_lists_several(
    line: list[str], folder: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "name a model; none was applied yet: dyeworks models apply FILE" in failed(line, capsys)
    apply_config(folder, adire())
    assert "name a model" not in failed(line, capsys) if line != ["drift", "references"] else run(line) == 0
    apply_config(folder, adire(name="indigo"))
    capsys.readouterr()
    assert "name a model; there are adire, indigo" in failed(line, capsys)
    assert "no model 'blue'; there are adire, indigo" in failed([*line, "--model", "blue"], capsys)


@pytest.mark.parametrize("name", MOVED)
def test_former_model_settings_are_rejected_with_their_new_field(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"DYEWORKS_{name}", "1")
    output = failed(["models", "list"], capsys)
    assert f"DYEWORKS_{name}: belongs to a model now: set {MOVED[name]} in the model's file" in output


def test_invalid_setting_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DYEWORKS_RENDER_BATCH", "none")
    assert "settings: render_batch: Input should be a valid integer" in failed(["models", "list"], capsys)


def test_unusable_store_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DYEWORKS_STORE", str(tmp_path / "file/store"))
    assert "dyeworks: store " in failed(["models", "list"], capsys)


def test_a_prefect_server_that_does_not_answer_is_named() -> None:
    environment = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    done = subprocess.run([DYEWORKS, "bootstrap"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("dyeworks: PREFECT_API_URL: no Prefect server responds there")


@pytest.mark.parametrize("line", [["--help"], ["models", "list"], ["models", "apply", "infra/models"]], ids=" ".join)
def test_light_commands_import_no_heavy_packages(line: list[str], tmp_path: Path) -> None:
    code = f"import sys; from deployments.cli.app import run; assert run({line}) == 0; print(*sys.modules)"
    environment = {"PATH": "/usr/bin:/bin", "DYEWORKS_STORE": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert "deployments.cli.models" in modules
    assert not HEAVY & modules


def test_ctrl_c_exits_with_130(tmp_path: Path) -> None:
    prompts = tmp_path / "history.jsonl"
    os.mkfifo(prompts)
    # what a shell starts in the background ignores the signal, and so do its children
    command = ["env", "--default-signal=INT", DYEWORKS, "drift", "import", str(prompts)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        writer = prompts.open("w")  # opened as soon as the command reads
        process.send_signal(signal.SIGINT)
        try:
            _, output = process.communicate(timeout=60)
        finally:
            process.kill()
            writer.close()
    assert (process.returncode, output) == (130, "")


def test_console_script_runs_in_any_folder(tmp_path: Path) -> None:
    environment = {"DYEWORKS_STORE": str(tmp_path / "store"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [DYEWORKS, "models", "apply", str(ROOT / "infra/models")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "model adire: configuration 1 applied\n", "")


def test_failed_service_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    environment = os.environ | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    command = [DYEWORKS, "up", "--home", "home", "--models", "none.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    first, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert first.startswith("dyeworks: ")
    assert last.startswith(f"dyeworks: {tmp_path / 'none.yaml'}: cannot be read")
    assert not (tmp_path / "home/pids.json").exists()


@pytest.mark.parametrize(
    "line",
    [
        *(["replay", "--days", days] for days in ("inf", "nan", "-1", "1e9")),
        *(["drift", command, "0"] for command in ("show", "pin")),
        ["serve", "gateway", "--port", "65536"],
    ],
    ids=" ".join,
)
def test_a_number_out_of_range_is_wrong_usage(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line) == 2
    assert "Invalid value" in capsys.readouterr().err


def test_a_store_of_no_name_is_not_this_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DYEWORKS_STORE", "")
    assert run(["models", "list"]) == 1
    assert capsys.readouterr().err.startswith("dyeworks: settings: store: ")
