"""The command `dyeworks`: its help, its exit codes, and an error in one line."""

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
    """The command, its groups and its commands, as they are typed."""
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    yield []
    for name, found in command.commands.items():
        yield [name]
        if isinstance(found, TyperGroup):
            yield from ([name, verb] for verb in found.commands)


@pytest.mark.parametrize("line", list(groups()), ids=" ".join)
def test_every_command_says_in_a_line_what_it_does(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*line, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"Usage: {' '.join(['dyeworks', *line])} ")
    assert "..." not in told.partition("Commands:")[2], "a first sentence is too long for the list of commands"


def test_the_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f" {code} " in told for code in (0, 1, 2, 130, 143))


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
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
        ["serve", "webhook", "--model", "adire"],
        ["outbox", "resend", "--count", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line) == 2
    assert "Usage: dyeworks" in "".join(capsys.readouterr())


def failed(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that fails prints, which is one line."""
    assert run(line) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("dyeworks: ")
    return told


@pytest.mark.parametrize("line", [["drift", "references"], ["replay"], ["drift", "pin", "1"]], ids=" ".join)
def test_a_command_without_a_model_means_the_only_one_or_lists_them(
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
def test_a_setting_that_belongs_to_a_model_now_is_refused_with_its_field(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"DYEWORKS_{name}", "1")
    told = failed(["models", "list"], capsys)
    assert f"DYEWORKS_{name}: belongs to a model now: set {MOVED[name]} in the model's file" in told


def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DYEWORKS_RENDER_BATCH", "none")
    assert "settings: render_batch: Input should be a valid integer" in failed(["models", "list"], capsys)


def test_a_store_that_cannot_be_used_is_named(
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
def test_a_small_command_loads_nothing_large(line: list[str], tmp_path: Path) -> None:
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


def test_ctrl_c_ends_a_command_with_130(tmp_path: Path) -> None:
    prompts = tmp_path / "history.jsonl"
    os.mkfifo(prompts)
    command = [DYEWORKS, "drift", "import", str(prompts)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        writer = prompts.open("w")  # opened as soon as the command reads
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        writer.close()
    assert (process.returncode, told) == (130, "")


def test_the_console_script_runs_in_any_folder(tmp_path: Path) -> None:
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


def test_services_that_do_not_start_are_reported_with_the_lines_that_say_why(tmp_path: Path) -> None:
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
        ["serve", "webhook", "--port", "65536"],
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
