"""A withdrawn release is served at no place, and never again."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import PolicySpec
from tasks.core.config.requests import EvaluateRequest, PromoteRequest, PublishRequest, RollBackRequest, WithdrawRequest
from tasks.core.errors import ObjectMissing, ReleaseUnknown, ReleaseWithdrawn, SettingError
from tasks.core.evaluation.plan import plan_evaluation
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.lifecycle.reconcile import reconcile
from tasks.core.lifecycle.roll_back import roll_back
from tasks.core.lifecycle.withdraw import withdraw
from tasks.core.models.identity import WEIGHTS
from tasks.core.monitoring.reference import reference_begin
from tasks.core.registry.channel import Channel, read_channel
from tasks.core.registry.ledger import history, profile_generation
from tasks.core.registry.releases import fetch_release, prefix
from tasks.core.retraining import policy
from tasks.core.store import FolderStore, open_store
from tests.adire import adire, installed
from tests.candidates import evaluated, trained
from tests.hub_server import HubServer

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

WHY = "a picture was removed"


@pytest.fixture
def shop(model: ModelConfig, tmp_path: Path) -> ModelConfig:
    """A model that is published to another store too."""
    return adire(publishing={"store": str(tmp_path / "public")})


def generations(store: FolderStore, model: ModelConfig, trainings: str) -> list[str]:
    """Promote and publish these trainings; returns their releases."""
    for training in trainings:
        request = PromoteRequest(evaluation=evaluated(store, training, len(history(store, model.name))))
        publish(
            installed(store), model, PublishRequest(generation=promote(installed(store), model, request).generation)
        )
    return [entry.release for entry in history(store, model.name)]


def served(url: str, model: str) -> tuple[int, str]:
    channel: Channel | None = read_channel(open_store(url), model)[0]
    assert channel is not None
    return channel.generation, channel.release


def test_the_served_release_is_replaced_by_the_newest_good_one(
    folder: FolderStore, shop: ModelConfig, tmp_path: Path
) -> None:
    first, second, third = generations(folder, shop, "abc")
    withdraw(installed(folder), shop, WithdrawRequest(generation=2, reason=WHY))
    assert served(folder.url, shop.name) == (3, third), "the withdrawn release is not the served one"
    withdraw(installed(folder), shop, WithdrawRequest(release=third, actor="ada", reason=WHY))
    entry = history(folder, shop.name)[-1]
    assert (entry.action, entry.restores, entry.release, entry.abandons) == ("roll_back", 1, first, third)
    assert (entry.actor, entry.reason) == ("ada", f"release {third} was withdrawn: {WHY}")
    for url in (folder.url, shop.publishing.store):
        assert served(url, shop.name) == (4, first)
        for gone in (second, third):
            with pytest.raises(ReleaseWithdrawn, match=WHY):
                fetch_release(open_store(url), shop.name, gone, tmp_path / "fetched")


def test_without_a_good_release_the_bare_base_is_served(folder: FolderStore, shop: ModelConfig) -> None:
    generations(folder, shop, "a")
    withdraw(installed(folder), shop, WithdrawRequest(generation=1, reason=WHY))
    entries = history(folder, shop.name)
    assert (entries[-1].action, entries[-1].release, entries[-1].generation) == ("roll_back", "", 2)
    for url in (folder.url, shop.publishing.store):
        assert served(url, shop.name) == (2, "")
    assert publish(installed(folder), shop, PublishRequest()).release == ""


def test_the_bare_base_has_a_reference_of_its_own_and_is_the_champion(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "a")
    withdraw(installed(folder), model, WithdrawRequest(generation=1, reason=WHY))
    entries = history(folder, model.name)
    assert profile_generation(entries) == 2
    assert reference_begin(entries, 2) == entries[-1].time
    plan = plan_evaluation(installed(folder), model, EvaluateRequest(training="b"))
    assert (plan.champion_release, plan.champion_generation) == ("", 2)
    request = PromoteRequest(evaluation=evaluated(folder, "b", 2, bare=True))
    assert promote(installed(folder), model, request).generation == 3
    assert roll_back(installed(folder), model, RollBackRequest()).release == "", "which was served before it"


def test_under_the_bare_base_only_new_data_starts_a_retrain(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "a")
    withdraw(installed(folder), model, WithdrawRequest(generation=1, reason=WHY))
    ledger, later = tuple(history(folder, model.name)), clock.now() + timedelta(hours=48)

    def situation(version: str) -> policy.Situation:
        return policy.Situation(now=later, history=(), ledger=ledger, dataset=model.dataset, dataset_version=version)

    assert policy.on_data(1, situation("v2"), PolicySpec())[0] == "retrain"
    assert policy.on_data(1, situation(ledger[-1].dataset_version), PolicySpec())[0] == "declined"
    assert policy.on_drift("retrain", situation(ledger[-1].dataset_version), PolicySpec(hits=1))[0] == "declined"


def test_weights_are_deleted_at_all_places_and_a_tombstone_stays(folder: FolderStore, shop: ModelConfig) -> None:
    release = generations(folder, shop, "ab")[1]
    folder.write("models/adire/checkpoints/b/step-000100/state.safetensors", b"b")
    request = WithdrawRequest(generation=2, actor="ada", reason=WHY, delete_weights=True)
    assert withdraw(installed(folder), shop, request) == withdraw(installed(folder), shop, request), (
        "it can be done again"
    )
    for url in (folder.url, shop.publishing.store):
        place = prefix(shop.name, release)
        left = [key.removeprefix(place) for key in open_store(url).list(place)]
        assert left == ["manifest.json", "withdrawn.json"]
        assert WHY in open_store(url).read(place + "withdrawn.json").decode()
        assert open_store(url).exists(prefix(shop.name, history(folder, shop.name)[0].release) + WEIGHTS)
    assert list(folder.list("models/adire/checkpoints/")) == [
        "models/adire/checkpoints/a/adapter/pytorch_lora_weights.safetensors"
    ]


def test_the_weights_can_be_deleted_later(folder: FolderStore, model: ModelConfig) -> None:
    release = generations(folder, model, "ab")[1]
    withdraw(installed(folder), model, WithdrawRequest(generation=2, actor="ada", reason=WHY))
    assert folder.exists(prefix(model.name, release) + WEIGHTS)
    again = WithdrawRequest(release=release, actor="bob", reason="all of it", delete_weights=True)
    assert withdraw(installed(folder), model, again).withdrawal.actor == "ada", "the first record stands"
    with pytest.raises(ObjectMissing):
        folder.read(prefix(model.name, release) + WEIGHTS)


def test_a_withdrawn_release_is_neither_published_nor_served_again(folder: FolderStore, model: ModelConfig) -> None:
    generations(folder, model, "abc")
    withdraw(installed(folder), model, WithdrawRequest(generation=2, reason=WHY))
    with pytest.raises(ReleaseWithdrawn):
        publish(installed(folder), model, PublishRequest(generation=2))


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (WithdrawRequest(generation=1), SettingError),
        (WithdrawRequest(reason=WHY), ReleaseUnknown),
        (WithdrawRequest(generation=7, reason=WHY), ReleaseUnknown),
        (WithdrawRequest(release="0123456789abcdef", reason=WHY), ReleaseUnknown),
    ],
)
def test_a_bad_request_changes_nothing(
    folder: FolderStore, model: ModelConfig, request_: WithdrawRequest, error: type[Exception]
) -> None:
    generations(folder, model, "a")
    before = list(folder.list(""))
    with pytest.raises(error):
        withdraw(installed(folder), model, request_)
    assert list(folder.list("")) == before


class Killed(Exception):
    """The process ends here."""


class Dying(FolderStore):
    """A folder whose process is killed before the given write or deletion."""

    def __init__(self, root: Path, lives: int) -> None:
        super().__init__(root)
        self.lives = lives

    def _live(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise Killed

    def create(self, key: str, data: bytes) -> None:
        self._live()
        super().create(key, data)

    def write(self, key: str, data: bytes) -> None:
        self._live()
        super().write(key, data)

    def delete(self, key: str) -> None:
        self._live()
        super().delete(key)


@pytest.mark.parametrize("lives", [1, 2, 3, 5, 7])
def test_an_interrupted_deletion_is_finished_by_reconcile(
    folder: FolderStore,
    shop: ModelConfig,
    mlflow_home: "MlflowClient",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lives: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    run = str(mlflow_home.create_run(mlflow_home.create_experiment(f"{tmp_path}")).info.run_id)
    first, second = generations(folder, shop, "ab")
    for training in "ab":
        trained(folder, training, run)
    folder.write(f"models/adire/renders/{hashlib.sha256(b'b').hexdigest()[:16]}/way/picture.webp", b"b")
    request = WithdrawRequest(generation=2, actor="ada", reason=WHY, delete_weights=True)
    with pytest.raises(Killed):
        withdraw(installed(Dying(tmp_path / "store", lives)), shop, request)
    reconcile(installed(folder), shop)
    for url in (folder.url, shop.publishing.store):
        place = prefix(shop.name, second)
        assert served(url, shop.name) == (3, first)
        assert {key.removeprefix(place) for key in open_store(url).list(place)} == {"manifest.json", "withdrawn.json"}
    assert list(folder.list("models/adire/renders/")) == list(folder.list("models/adire/checkpoints/b/")) == []
    assert reconcile(installed(folder), shop) == (), "the second time there is nothing to do"


def test_without_a_requested_deletion_reconcile_deletes_nothing(
    folder: FolderStore, shop: ModelConfig, mlflow_home: "MlflowClient", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = str(mlflow_home.create_run(mlflow_home.create_experiment(f"{tmp_path}")).info.run_id)
    second = generations(folder, shop, "ab")[1]
    for training in "ab":
        trained(folder, training, run)
    withdraw(installed(folder), shop, WithdrawRequest(generation=2, reason=WHY))
    reconcile(installed(folder), shop)
    for url in (folder.url, shop.publishing.store):
        assert open_store(url).exists(prefix(shop.name, second) + WEIGHTS)


def test_a_place_that_is_down_is_pending_and_the_others_are_finished(
    folder: FolderStore, shop: ModelConfig, tmp_path: Path, mlflow_home: "MlflowClient", hub_server: HubServer
) -> None:
    first, second = generations(folder, shop, "ab")
    hub = adire(publishing={"store": shop.publishing.store, "hub_repo": "cloth/adire"})
    public = tmp_path / "public"
    public.rename(tmp_path / "away")
    public.write_text("no folder")
    found = withdraw(
        installed(folder, hub_token=SecretStr("hf_revoked")),
        hub,
        WithdrawRequest(release=second, reason=WHY, delete_weights=True),
    )
    assert found.withdrawal.release == second
    assert len(found.pending) == 2
    assert str(public) in found.pending[0]
    assert "cloth/adire" in found.pending[1]
    assert served(folder.url, shop.name) == (3, first)
    assert not folder.exists(prefix(shop.name, second) + WEIGHTS)
    public.unlink()
    (tmp_path / "away").rename(public)
    assert served(shop.publishing.store, shop.name)[1] == second
    reconcile(installed(folder), shop)
    assert served(shop.publishing.store, shop.name) == (3, first)
    assert not open_store(shop.publishing.store).exists(prefix(shop.name, second) + WEIGHTS)
