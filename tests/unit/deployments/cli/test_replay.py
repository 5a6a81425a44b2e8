"""`dyeworks replay`: the replay as a command."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from deployments.cli.app import run
from deployments.cli.replay import asked
from tasks.core import clock
from tasks.core.config.installation import Settings
from tasks.core.config.presets import load_preset
from tasks.core.errors import SettingError
from tasks.core.registry import ledger
from tasks.core.registry.models import apply_config
from tasks.core.retraining.decisions import Action, make_decision, record_decision
from tasks.core.store import FolderStore
from tasks.core.store.documents import render
from tests.adire import NAME, adire
from tests.unit.core.retraining.test_replay import FIRST, at, seen


@pytest.fixture
def filled(folder: FolderStore, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """Three days of checks, the newest an hour ago; half of the second day is over the threshold."""
    monkeypatch.setattr(clock, "now", lambda: at(72))
    apply_config(folder, adire())
    ledger.append(folder, NAME, FIRST)
    for hour in range(72):
        record = seen(hour, 0.3 if 24 <= hour < 36 else 0.02)
        folder.write(record.key, render(record))
        action: Action = "declined" if record.verdict == "retrain" else "none"
        decision = make_decision("drift", record.time, (action, "mode advise"), record.key, report=record.key)
        record_decision(folder, NAME, decision)
    return folder


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "what-if.yaml"
    path.write_text(text)
    return str(path)


def test_table_shows_the_retrains_of_the_replay(filled: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["time", "(UTC)", "verdict", "psi", "then", "dry", "run", "reason"]
    assert len(lines) == 1 + 12 + 2, "sixty checks had nothing to decide"
    assert lines[1].split()[:6] == ["2026-03-02", "00:00", "retrain", "0.300", "declined", "retrain"]
    assert "cool-down: generation 2" in lines[3]
    assert "(60 with nothing to decide are left out; --all shows them)" in lines[-2]
    assert lines[-1] == "retrains for drift: 0 then, 2 in the dry run, about 0.20 GPU-hours"
    run(["replay", "--all"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + 72 + 2


def test_json_output(filled: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", "--json", "--days", "2"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["summary"] == {"checks": 48, "fired_then": 0, "fired": 2, "gpu_hours": 0.2}
    assert {"time", "verdict", "psi", "then", "dry_run", "reason", "gpu_hours", "report"} == set(output["checks"][0])


def test_policy_file_overrides_only_its_own_fields(
    filled: FolderStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = written(tmp_path, "policy: {cooldown_hours: 100}\nmonitor: {drift: {retrain_psi: 0.29}}\n")
    spec, drift = asked(load_preset("embedded"), name)
    assert spec == load_preset("embedded").policy.model_copy(update={"cooldown_hours": 100})
    assert drift == load_preset("embedded").monitor.drift.model_copy(update={"retrain_psi": 0.29})
    assert run(["replay", "--policy", name]) == 0
    assert "1 in the dry run" in capsys.readouterr().out
    assert run(["replay", "--policy", written(tmp_path, "monitor: {drift: {retrain_psi: 0.4}}")]) == 0
    assert "0 in the dry run" in capsys.readouterr().out


def test_fields_that_change_the_psi_cannot_be_replayed(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"monitor\.drift\.bins cannot be replayed; the thresholds can: min_eff"):
        asked(load_preset("embedded"), written(tmp_path, "monitor: {drift: {bins: 20}}"))
    with pytest.raises(SettingError, match="did you mean 'retrain_psi'"):
        asked(load_preset("embedded"), written(tmp_path, "monitor: {drift: {retrain_ps: 0.3}}"))


def test_policy_file_that_conflicts_with_the_preset_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_force = tmp_path / "mine.yaml"
    in_force.write_text("monitor: {drift: {warn_psi: 0.15}}")
    with pytest.raises(SettingError, match=r"what-if\.yaml: with the preset in force: .*a retrain must need at least"):
        asked(load_preset(str(in_force)), written(tmp_path, "monitor: {drift: {retrain_psi: 0.12}}"))


def test_missing_records_are_reported_with_the_store(
    settings: Settings, folder: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    apply_config(folder, adire())
    assert run(["replay"]) == 1
    output = capsys.readouterr().err
    assert output.startswith(f"dyeworks: no drift checks under drift/adire/reports/ in store {settings.store}; check")
    assert run(["replay", "--days", "3"]) == 1
    assert "no drift checks of the last 3 days under" in capsys.readouterr().err


def test_missing_preset_is_reported(filled: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", "--policy", "nowhere.yaml"]) == 1
    assert "no preset 'nowhere.yaml'" in capsys.readouterr().err


def test_days_option_counts_back_from_now(filled: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: at(72) + timedelta(days=30))
    assert run(["replay", "--days", "7"]) == 1


def test_a_mode_of_a_later_version_is_reported(tmp_path: Path) -> None:
    now = load_preset("embedded")
    later = now.model_copy(update={"policy": now.policy.model_copy(update={"mode": "weekends"})})
    with pytest.raises(SettingError, match="with the preset in force: mode: Input should be 'auto' or 'advise'"):
        asked(later, written(tmp_path, "policy: {cooldown_hours: 100}"))
    assert asked(later, written(tmp_path, "policy: {mode: auto}"))[0].mode == "auto"
