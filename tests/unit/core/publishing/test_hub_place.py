"""The Hub as one of the places that a generation is published to, with a test server of its protocol."""

import json
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest, PublishRequest, RollBackRequest, WithdrawRequest
from tasks.core.errors import PublishRefused
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.lifecycle.reconcile import reconcile
from tasks.core.lifecycle.roll_back import roll_back
from tasks.core.lifecycle.withdraw import withdraw
from tasks.core.models.identity import WEIGHTS
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import append, history
from tasks.core.registry.releases import fetch_release, name_of, put_release, read_manifest
from tasks.core.store import FolderStore
from tests.adire import adire, installed
from tests.candidates import evaluated
from tests.hub_releases import REPO, repo_of
from tests.hub_server import TOKEN, HubServer


@pytest.fixture
def shop(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    """A model that is published to the Hub too."""
    monkeypatch.setenv("DYEWORKS_HUB_TOKEN", TOKEN)
    return adire(publishing={"hub_repo": REPO})


def put_out(folder: FolderStore, shop: ModelConfig, training: str) -> dict[str, str]:
    """Promote and publish a training; returns its places."""
    request = PromoteRequest(evaluation=evaluated(folder, training, len(history(folder, shop.name))))
    return publish(
        installed(folder), shop, PublishRequest(generation=promote(installed(folder), shop, request).generation)
    ).places


def test_a_published_generation_is_on_the_hub_with_its_card(
    folder: FolderStore, shop: ModelConfig, hub_server: HubServer, tmp_path: Path
) -> None:
    places = put_out(folder, shop, "a")
    assert places == {f"{hub_server.url}/{REPO}": repo_of(hub_server).main}
    weights = hf_hub_download(
        REPO, WEIGHTS, revision="generation-1", token=TOKEN, endpoint=hub_server.url, local_dir=tmp_path / "read"
    )
    assert Path(weights).read_bytes() == b"a"
    assert b"instance_prompt: adire_style" in repo_of(hub_server).files()["README.md"]
    hub_server.forget()
    publish(installed(folder), shop, PublishRequest())
    assert not hub_server.writes, "published twice, nothing is sent the second time"


def test_a_roll_back_is_on_the_hub_without_an_upload(
    folder: FolderStore, shop: ModelConfig, hub_server: HubServer
) -> None:
    for training in "ab":
        put_out(folder, shop, training)
    entry = roll_back(installed(folder), shop, RollBackRequest(actor="ada", reason="too blue"))
    hub_server.forget()
    publish(installed(folder), shop, PublishRequest(generation=entry.generation))
    assert repo_of(hub_server).files()[WEIGHTS] == b"a"
    assert "lfs_upload" not in hub_server.asked


def test_without_a_token_a_generation_is_served_but_not_uploaded(
    folder: FolderStore, shop: ModelConfig, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DYEWORKS_HUB_TOKEN")
    with pytest.raises(PublishRefused, match="there is no token"):
        put_out(folder, shop, "a")
    channel, _ = read_channel(folder, shop.name)
    assert channel is not None
    assert channel.generation == 1
    assert hub_server.asked == []


def test_a_withdrawn_release_is_removed_from_the_hub(
    folder: FolderStore, shop: ModelConfig, hub_server: HubServer
) -> None:
    put_out(folder, shop, "a")
    withdraw(
        installed(folder), shop, WithdrawRequest(generation=1, reason="a picture was removed", delete_weights=True)
    )
    assert set(repo_of(hub_server).files()) == {"README.md"}
    assert b"a picture was removed" in repo_of(hub_server).files()["README.md"]
    put_out(folder, shop, "b")
    assert repo_of(hub_server).files()[WEIGHTS] == b"b"


@pytest.mark.usefixtures("mlflow_home")
def test_reconcile_updates_the_hub_from_the_ledger(
    folder: FolderStore, shop: ModelConfig, hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow's artifacts
    promote(installed(folder), shop, PromoteRequest(evaluation=evaluated(folder, "a", 0)))
    assert any("published to" in change for change in reconcile(installed(folder), shop))
    assert repo_of(hub_server).files()[WEIGHTS] == b"a"
    hub_server.forget()
    assert reconcile(installed(folder), shop) == ()
    assert not hub_server.writes
    assert hub_server.asked.count("whoami") == hub_server.asked.count("auth_check") == 1, "rate limited"


def test_the_manifest_of_a_later_version_arrives_as_it_is(
    folder: FolderStore, shop: ModelConfig, hub_server: HubServer, tmp_path: Path
) -> None:
    put_out(folder, shop, "a")
    (first,) = history(folder, shop.name)
    fetch_release(folder, shop.name, first.release, tmp_path)
    manifest = json.dumps(json.loads(read_manifest(folder, shop.name, first.release)) | {"signed_by": "ada"}).encode()
    put_release(folder, shop.name, name_of(manifest), manifest, lambda name: tmp_path / name)
    append(folder, shop.name, first.model_copy(update={"generation": 2, "release": name_of(manifest)}))
    publish(installed(folder), shop, PublishRequest())
    assert repo_of(hub_server).files()["manifest.json"] == manifest
    hub_server.forget()
    publish(installed(folder), shop, PublishRequest())
    assert not hub_server.writes
