"""The services on one machine: secrets that survive a kill, hidden passwords, a local or remote MLflow server."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deployments.stack import Stack, _processes_of, _secret, _without_password
from tasks.core.access.keys import KeyRing, read_keys, revoke_key
from tasks.core.access.roles import scopes_of
from tasks.core.config.installation import ROOT
from tasks.core.installation import BasesDiffer
from tasks.core.registry.models import apply_config, model_names
from tasks.core.store import FolderStore
from tests.adire import adire

WITH_PASSWORD = "postgresql+psycopg2://ada:s3cr3t@db.example/mlflow"


class Recorder(Stack):
    """Records commands instead of starting them."""

    def spawn(self, name: str, *command: str) -> None:
        self.commands = {**getattr(self, "commands", {}), name: command}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secret_is_generated_once_and_readable_only_by_its_owner(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = _secret(tmp_path / "new" / "token")
    finally:
        os.umask(before)
    assert len(made) >= 32
    assert _secret(tmp_path / "new" / "token") == made
    assert mode(tmp_path / "new" / "token") == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["token"]


@pytest.mark.parametrize("left", [b"", b"\n"])
def test_empty_secret_file_is_regenerated(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "token").write_bytes(left)
    (tmp_path / ".token.part").write_bytes(b"half")
    made = _secret(tmp_path / "token")
    assert len(made) >= 32
    assert _secret(tmp_path / "token") == made


def test_permissions_of_a_readable_secret_are_restricted(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-a-person")
    (tmp_path / "token").chmod(0o644)
    assert _secret(tmp_path / "token") == "a-token-of-a-person"
    assert mode(tmp_path / "token") == 0o600


def test_secret_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        _secret(tmp_path / "token")
    assert not (tmp_path / "token").exists()


@pytest.mark.parametrize("uri", ["http://mlflow.example:5000", "https://ada:s3cr3t@mlflow.example/x", "databricks"])
def test_remote_mlflow_server_is_not_started(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    stack = Stack(tmp_path)
    shown = stack.start_mlflow()
    assert stack.processes == {}
    assert shown == uri.replace("ada:s3cr3t@", "")
    assert stack.environment["MLFLOW_TRACKING_URI"] == uri


def test_no_command_line_contains_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", WITH_PASSWORD)
    stack = Recorder(tmp_path)
    stack.start_mlflow()
    stack.start_gateway()
    stack.start_storefront()
    stack.start_worker()
    assert len(stack.commands) == 5
    assert "s3cr3t" not in str(stack.commands)
    assert stack.token not in str(stack.commands)
    assert stack.environment["MLFLOW_BACKEND_STORE_URI"] == WITH_PASSWORD


def test_paths_in_the_environment_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYEWORKS_STORE", "kept")
    stack = Stack(Path("home"), models=Path("models"))
    assert stack.environment["DYEWORKS_STORE"] == str(tmp_path / "kept")
    assert (stack.home, stack.models) == (tmp_path / "home", tmp_path / "models")
    monkeypatch.setenv("DYEWORKS_STORE", "s3://bucket/kept")
    assert stack.environment["DYEWORKS_STORE"] == "s3://bucket/kept"


def test_services_share_the_clock_of_a_demo(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    assert "DYEWORKS_CLOCK" not in stack.environment
    stack.clock.write_text("3600")
    assert stack.environment["DYEWORKS_CLOCK"] == str(tmp_path / "clock")


def test_models_are_applied_before_services_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "store")
    monkeypatch.setenv("DYEWORKS_STORE", str(tmp_path / "store"))
    apply_config(store, adire(name="indigo", base="another"))
    stack = Recorder(tmp_path / "home", models=ROOT / "infra/models")
    with pytest.raises(BasesDiffer, match=r"there are adire \(embedded\), indigo \(another\): name some"):
        stack.start_all()
    assert model_names(store) == ["adire", "indigo"]
    assert not hasattr(stack, "commands"), "no service was started"


def test_storefront_serves_the_named_models(tmp_path: Path) -> None:
    stack = Recorder(tmp_path, served=("indigo", "adire"))
    stack.start_storefront()
    stack.start_gateway()
    assert stack.commands["storefront"][-4:] == ("--model", "indigo", "--model", "adire")
    assert "--model" not in stack.commands["gateway"]


def test_urls_are_shown_without_passwords() -> None:
    assert _without_password("http://a:b@c@host:1/p@th") == "http://host:1/p@th"
    assert _without_password("http://host/p@th") == "http://host/p@th"


def test_empty_setting_counts_as_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert Stack(tmp_path).environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """An MLflow server on a database whose name stands for a password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/s3cr3t.db")
    stack = Stack(tmp_path)
    try:
        stack.start_mlflow()
        stack.wait("mlflow", "/health")
        yield stack
    finally:
        stack.stop()


@pytest.mark.e2e
def test_mlflow_server_uses_the_database_from_its_environment(page: Stack, tmp_path: Path) -> None:
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in _processes_of(tmp_path)]
    assert any("mlflow" in command for command in commands)
    assert "s3cr3t" not in "".join(commands)
    body = {"name": "cloth"}
    httpx.post(f"{page.url('mlflow')}/api/2.0/mlflow/experiments/create", json=body, timeout=60).raise_for_status()
    assert b"cloth" in (tmp_path / "s3cr3t.db").read_bytes()


def test_upload_key_is_created_once_and_again_when_the_store_does_not_know_it(tmp_path: Path) -> None:
    store, stack = FolderStore(tmp_path / "store"), Stack(tmp_path / "home")
    file = stack.home / "upload-key"

    def valid() -> list[str]:
        stack.prepare_upload_key(store)
        keys = KeyRing()
        keys.refresh(store)
        assert scopes_of(keys.find(file.read_text()).role) == {"upload"}
        return [key.sha256 for key in read_keys(store) if not key.revoked]

    first = valid()
    assert (len(first), mode(file)) == (1, 0o600)
    assert valid() == first
    file.write_text("")
    second = valid()
    assert len(second) == 1
    assert second != first
    revoke_key(store, read_keys(store)[-1].name)
    assert valid() not in (first, second)
