"""`dyeworks keys`: a key is printed once, listed without its text, and revoked."""

import pytest

from deployments.cli.app import run
from tasks.core.access.errors import KeyRejected
from tasks.core.access.keys import KeyRing, create_key, read_keys
from tasks.core.config.model import ModelConfig
from tasks.core.store import FolderStore


def output(capsys: pytest.CaptureFixture[str], *line: str) -> tuple[str, str]:
    """What a successful command prints, and its remarks."""
    assert run(["keys", *line]) == 0
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_key_is_printed_once_and_works(
    folder: FolderStore, applied: ModelConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ("create", "--role", "visitor", "--name", "shop", "--model", applied.name, "--days", "90")
    text, remark = output(capsys, *line)
    assert (text.count("\n"), text.startswith("dyw_visitor_")) == (1, True)
    assert text.strip() not in remark
    assert "it is not shown again" in remark
    keys = KeyRing()
    keys.refresh(folder)
    key = keys.find(text.strip())
    assert (key.name, key.role, key.models) == ("shop", "visitor", ("adire",))
    assert key.expires is not None
    assert (key.expires - key.created).days in (89, 90)
    listed, _ = output(capsys, "list")
    assert text.strip() not in listed
    assert listed.startswith(f"shop  {key.prefix}...  visitor  adire  created {key.created:%Y-%m-%d %H:%M}  expires ")


def test_revoked_key_is_listed_as_such_and_rejected(folder: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "list")[0] == "no key was created yet: dyeworks keys create --role ROLE --name NAME\n"
    text, _ = output(capsys, "create", "--role", "admin", "--name", "ada")
    assert "  all models  " in (listed := output(capsys, "list")[0])
    assert listed.endswith("  never expires\n")
    (key,) = read_keys(folder)
    assert output(capsys, "revoke", "ada")[0] == f"revoked ada  {key.prefix}...\n"
    assert output(capsys, "revoke", "ada")[0] == "ada was revoked before\n"
    assert "  revoked 2" in output(capsys, "list")[0]
    keys = KeyRing()
    keys.refresh(folder)
    with pytest.raises(KeyRejected):
        keys.find(text.strip())


@pytest.mark.parametrize(
    ("line", "code", "problem"),
    [
        (["create", "--role", "king", "--name", "shop"], 2, "'king' is not one of 'visitor', 'viewer'"),
        (["create", "--role", "admin"], 2, "Missing option '--name'"),
        (["create", "--role", "admin", "--name", "shop", "--days", "0"], 2, "greater than or equal to 1"),
        (["create", "--role", "admin", "--name", "My shop"], 1, "no key can be named 'My shop'"),
        (["create", "--role", "admin", "--name", "other", "--model", "indigo"], 1, "no model 'indigo'"),
        (["create", "--role", "admin", "--name", "taken"], 1, "a valid key has this name"),
        (["revoke", "tekan"], 1, "no key is named 'tekan'; there are taken"),
    ],
)
def test_wrong_command_creates_and_revokes_nothing(
    line: list[str], code: int, problem: str, folder: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    create_key(folder, "visitor", "taken")
    before = read_keys(folder)
    assert run(["keys", *line]) == code
    assert problem in " ".join(capsys.readouterr().err.split())
    assert read_keys(folder) == before
