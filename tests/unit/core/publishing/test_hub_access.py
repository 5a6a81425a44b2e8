"""Access to the Hub: tokens and their permissions, private models; no message contains a token."""

import logging
import traceback
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from pydantic import SecretStr

from tasks.core.config.installation import Settings
from tasks.core.config.model import PublishingSpec
from tasks.core.errors import PublishFailed, PublishRefused
from tasks.core.publishing.hub import Hub, open_hub
from tasks.core.publishing.repository import Who
from tests.hub_releases import REPO, Release, repo_of
from tests.hub_repos import Account, Repo
from tests.hub_server import TOKEN, HubServer

PUBLISHING = PublishingSpec(hub_repo=REPO)


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        (Account("ada", role="read", orgs={"cloth": "write"}), "may only read"),
        (Account("eve"), "eve, the owner of the token, is no member of cloth"),
        (Account("ada", orgs={"cloth": "read"}), "may only read in cloth"),
        (Account("ada", "fineGrained", {"cloth": "write"}, {"cloth": ("repo.content.read",)}), "fine-grained token"),
        (Account("ada", "fineGrained", {"cloth": "write"}, {"cloth/other": ("repo.write",)}), "fine-grained token"),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_a_token_without_write_access_is_rejected_before_anything_is_sent(
    hub_server: HubServer, hub: Hub, tmp_path: Path, account: Account, reason: str, there: bool
) -> None:
    hub_server.accounts[TOKEN] = account
    if there:
        hub_server.repos[REPO] = Repo()
    with pytest.raises(PublishRefused, match=f"{reason}.*nothing was uploaded"):
        Release(tmp_path, "first", 1).publish(hub)
    assert hub_server.writes == []


@pytest.mark.parametrize("scope", [REPO, "cloth"])
def test_a_fine_grained_token_for_the_owner_or_the_model_is_accepted(
    hub_server: HubServer, hub: Hub, tmp_path: Path, scope: str
) -> None:
    hub_server.accounts[TOKEN] = Account("ada", "fineGrained", {"cloth": "contributor"}, {scope: ("repo.write",)})
    assert Release(tmp_path, "first", 1).publish(hub) == repo_of(hub_server).main


def test_a_member_without_access_to_the_model_is_rejected(hub_server: HubServer, hub: Hub, tmp_path: Path) -> None:
    hub_server.accounts[TOKEN] = Account("ada", orgs={"cloth": "contributor"})
    hub_server.repos[REPO] = Repo()
    with pytest.raises(PublishRefused, match="the token may not write there"):
        Release(tmp_path, "first", 1).publish(hub)
    assert hub_server.writes == []


def test_an_unknown_token_is_rejected(hub_server: HubServer, tmp_path: Path) -> None:
    with pytest.raises(PublishRefused, match=r"rejected the token \(401\)"):
        Release(tmp_path, "first", 1).publish(Hub(REPO, "hf_revoked", endpoint=hub_server.url))
    assert hub_server.asked == ["whoami"]


def test_a_missing_token_is_rejected_without_a_request(hub_server: HubServer, settings: Settings) -> None:
    with pytest.raises(PublishRefused, match="there is no token; set DYEWORKS_HUB_TOKEN, HF_TOKEN"):
        open_hub(settings, PUBLISHING)
    assert hub_server.asked == []


@pytest.mark.parametrize("name", ["adire", "a/b/c", "cloth/adire--style", "cloth/-adire", "cloth/a dire", "cloth/"])
def test_an_invalid_name_is_rejected(name: str) -> None:
    with pytest.raises(PublishRefused, match=r"publishing\.hub_repo of the model"):
        Hub(name, TOKEN)


def test_an_unreachable_hub_is_reported(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.stop()
    with pytest.raises(PublishRefused, match=r"did not answer.*check the network and HF_ENDPOINT"):
        Release(tmp_path, "first", 1).publish(Hub(REPO, TOKEN, endpoint=hub_server.url))


def test_a_private_model_is_created_private_and_needs_the_token(hub_server: HubServer, tmp_path: Path) -> None:
    hub = Hub(REPO, TOKEN, private=True, endpoint=hub_server.url)
    first = Release(tmp_path, "first", 1)
    commit = first.publish(hub)
    assert repo_of(hub_server).private
    assert HfApi(endpoint=hub_server.url, token=TOKEN).model_info(REPO).sha == commit
    assert not HfApi(endpoint=hub_server.url, token=False).repo_exists(REPO)
    assert first.publish(hub) == commit


def test_a_private_model_is_not_published_to_a_public_repository(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.repos[REPO] = Repo()
    with pytest.raises(PublishRefused, match="it is public and publishing"):
        Release(tmp_path, "first", 1).publish(Hub(REPO, TOKEN, private=True, endpoint=hub_server.url))
    assert hub_server.writes == []


def all_messages(error: BaseException) -> str:
    """The messages of an error and of all its causes and contexts, suppressed ones too."""
    behind = [e for e in (error.__cause__, error.__context__) if e]
    return "".join([str(error), repr(error), *traceback.format_exception(error), *map(all_messages, behind)])


@pytest.mark.parametrize("fails", ["whoami", "info", "auth_check", "preupload", "lfs_upload", "commit", "tag", "tree"])
def test_no_message_contains_the_token(
    hub_server: HubServer, hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    hub_server.repos[REPO] = Repo()
    hub_server.faults[fails] = [403, 403]  # the server's message contains the token
    caplog.set_level(logging.DEBUG)
    for name in ("huggingface_hub", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    with pytest.raises((PublishFailed, PublishRefused)) as caught:
        Release(tmp_path, "first", 1).publish(hub)
    messages = all_messages(caught.value)
    assert "failed on demand, Bearer" in messages
    assert TOKEN not in messages
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(hub)


@pytest.mark.parametrize("token", [f"{TOKEN} {TOKEN}", f"{TOKEN}\n{TOKEN}", f"{TOKEN}é"])
def test_a_token_that_no_header_can_hold_is_rejected_without_showing_it(token: str) -> None:
    with pytest.raises(PublishRefused, match="an invalid character") as caught:
        Hub(REPO, token)
    assert TOKEN not in all_messages(caught.value)


def test_the_settings_name_the_model_and_the_token(
    hub_server: HubServer, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Release(tmp_path, "first", 1)
    hub = open_hub(settings.model_copy(update={"hub_token": SecretStr(TOKEN)}), PUBLISHING)
    assert not hub.has(1)
    assert first.publish(hub) == repo_of(hub_server).main
    assert (hub.has(1), hub.has(2), hub.repository.url) == (True, False, f"{hub_server.url}/{REPO}")
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\n")
    assert open_hub(settings, PUBLISHING).check()
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    monkeypatch.setenv("DYEWORKS_HUB_TOKEN", TOKEN)
    assert open_hub(Settings(), PUBLISHING).check()


def test_a_token_without_a_reported_role_is_not_rejected_early() -> None:
    who = Who.model_validate({"name": "ada", "auth": {"type": "oauth", "accessToken": None}})
    assert (who.role, who.may("repo.write", {"ada"})) == ("", False)
