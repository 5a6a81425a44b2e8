"""The operator's commands for the drift monitor."""

import shutil
from pathlib import Path

import pytest

from deployments.cli.app import run
from infra.base.visitors import FIRST_TASTE, NEW_TASTE
from tasks.core import clock
from tasks.core.config.installation import Settings
from tasks.core.config.presets import Preset
from tasks.core.installation import Installation
from tasks.core.monitoring.drift_check import DriftCheck
from tasks.core.monitoring.reference import read_pin, reference_records
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.shop import MODEL, NOW, SPEC, CountingClip, TurnedClip, ago, promote, visit

GOOD = '{"prompt": "rings", "time": "2026-01-31T12:00:00Z"}'
FROZEN = f"generation 1: 1300 requests from {ago(240):%Y-%m-%d}"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the frozen references of two generations, made by an encoder that is no longer in use."""
    place = tmp_path_factory.mktemp("template")
    settings = Settings(store=str(place / "store"), cache=place / "cache", device="cpu")
    store, clip = FolderStore(place / "store"), TurnedClip(CountingClip(adire()))
    promote(store)
    visit(store, 1300, FIRST_TASTE, (240, 24.1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: NOW)
        for generation in (1, 2):
            DriftCheck(Installation(settings, store), adire(), SPEC, clip).run()
            if generation == 1:
                visit(store, 1100, NEW_TASTE, (100, 24.1), seed=2)
                promote(store, 2, since=ago(100))
    return place / "store"


@pytest.fixture
def shop(template: Path, folder: FolderStore, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    shutil.copytree(template, settings.store, dirs_exist_ok=True)
    apply_config(folder, adire(preset=Preset(monitor=SPEC)))
    return folder


@pytest.fixture(autouse=True)
def applied(folder: FolderStore) -> None:
    apply_config(folder, adire())


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> "Commands":
    return Commands(capsys)


class Commands:
    """Runs commands and returns their output."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str) -> str:
        assert run(["drift", *arguments]) == 0
        output = self.capsys.readouterr()
        assert output.err == ""
        return output.out.removesuffix("\n")

    def error(self, *arguments: str) -> str:
        assert run(["drift", *arguments]) == 1
        output = self.capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("dyeworks: ")
        assert output.err.count("\n") == 1, "one line, no traceback"
        return output.err


def test_references_are_listed(shop: FolderStore, run_command: Commands) -> None:
    first, second = run_command("references").splitlines()
    assert first.startswith(FROZEN)
    assert first.endswith("turned-1")
    assert second.startswith("generation 2: ")


def test_missing_references_are_reported(folder: FolderStore, run_command: Commands) -> None:
    assert run_command("references") == "no reference is frozen yet: a promoted model needs traffic first"


def test_show_prints_a_reference_with_its_clusters(shop: FolderStore, run_command: Commands) -> None:
    head, arrays, title, *clusters = run_command("show", "1").splitlines()
    assert head.startswith(FROZEN)
    assert shop.exists(arrays.removeprefix("arrays "))
    assert title == "its clusters, and a prompt of each:"
    shares = [float(cluster.split("%")[0]) for cluster in clusters]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=1)
    assert all(any(motif in cluster for motif in FIRST_TASTE) for cluster in clusters)


def test_pin_is_listed_until_it_is_removed(shop: FolderStore, run_command: Commands) -> None:
    output = run_command("pin", "1", "--actor", "ada", "--reason", "the show")
    assert output == "the monitor now compares with the reference of generation 1"
    assert run_command("references").splitlines()[-1] == "pinned: generation 1, by ada at 2026-03-20 12:30: the show"
    assert run_command("unpin") == "the monitor now compares with the champion's reference"
    assert "pinned" not in run_command("references")
    assert read_pin(shop, MODEL) is None


def test_unpin_without_a_pin_has_no_effect(shop: FolderStore, run_command: Commands) -> None:
    run_command("unpin")
    assert len(run_command("references").splitlines()) == 2


@pytest.mark.parametrize("command", ["show", "pin"])
def test_unknown_generation_is_reported(shop: FolderStore, run_command: Commands, command: str) -> None:
    assert "model 'adire' has no drift reference of generation 7; see `dyeworks drift references`" in run_command.error(
        command, "7"
    )
    assert read_pin(shop, MODEL) is None


def test_refit_embeds_the_reference_in_force_again(shop: FolderStore, run_command: Commands) -> None:
    output = run_command("refit")
    assert output.startswith("frozen: generation 2: ")
    assert output.split()[-1].startswith("embedded-")
    old, new = (record for record in reference_records(shop, MODEL) if record.generation == 2)
    assert (old.begin, old.end, old.rows) == (new.begin, new.end, new.rows)
    assert run_command("refit") == output, "twice is once"
    assert len(run_command("references").splitlines()) == 3
    assert "embedded-" in run_command("show", "2").splitlines()[0]


def test_refit_without_a_reference_is_reported(folder: FolderStore, run_command: Commands) -> None:
    assert "no drift reference of generation 0" in run_command.error("refit")


def test_prompt_history_is_imported(folder: FolderStore, run_command: Commands, tmp_path: Path) -> None:
    file = tmp_path / "past.jsonl"
    file.write_text(f"{GOOD}\n\n{GOOD.replace('01-31', '02-01')}\n")
    assert (
        run_command("import", str(file)) == "2 requests from 2026-01-31 12:00 to 2026-02-01 12:00 are in the prompt log"
    )
    assert len(list(folder.list(f"prompts/{MODEL}/"))) == 2


def test_byte_order_mark_is_ignored(folder: FolderStore, run_command: Commands, tmp_path: Path) -> None:
    file = tmp_path / "past.jsonl"
    file.write_text(GOOD + "\n", encoding="utf-8-sig")
    assert run_command("import", str(file)).startswith("1 requests")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "No such file or directory"),
        (b"", "it is empty"),
        ("caf\u00e9".encode("latin-1"), "it is not UTF-8"),
        (GOOD.encode("utf-16"), "it is not UTF-8"),
        (f"{GOOD}\n{{\n".encode(), "line 2: line: Invalid JSON"),
    ],
)
def test_invalid_history_file_is_reported(
    folder: FolderStore, run_command: Commands, tmp_path: Path, data: bytes | None, message: str
) -> None:
    file = tmp_path / "past.jsonl"
    if data is not None:
        file.write_bytes(data)
    error = run_command.error("import", str(file))
    assert message in error
    assert str(file) in error
    assert list(folder.list("prompts/")) == []


def test_folder_instead_of_a_file_is_reported(folder: FolderStore, run_command: Commands, tmp_path: Path) -> None:
    assert "Is a directory" in run_command.error("import", str(tmp_path))


def test_unusable_store_is_reported_by_drift_commands(
    run_command: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DYEWORKS_STORE", str(tmp_path / "file"))
    assert "check DYEWORKS_STORE" in run_command.error("references")


@pytest.mark.parametrize("arguments", [[], ["pin"], ["show", "one"], ["unknown"]])
def test_unknown_command_is_rejected(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drift", *arguments]) == 2
    assert "Usage: dyeworks drift" in "".join(capsys.readouterr())
