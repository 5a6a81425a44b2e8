"""Channels, other places and MLflow's registry match the ledger after interruptions and changes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import AdoptRequest, PromoteRequest, PublishRequest, RollBackRequest, WithdrawRequest
from tasks.core.errors import PublishRefused, ReconcileFailed, ReleaseCorrupt
from tasks.core.lifecycle.adopt import adopt
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.lifecycle.reconcile import reconcile
from tasks.core.lifecycle.roll_back import roll_back
from tasks.core.lifecycle.withdraw import withdraw
from tasks.core.models.identity import WEIGHTS
from tasks.core.publishing.mlflow_registry import RegisteredModel, sync_mlflow_registry
from tasks.core.registry.channel import Channel, point, read_channel
from tasks.core.registry.ledger import Entry, history
from tasks.core.registry.releases import prefix
from tasks.core.registry.withdrawals import Withdrawal, record_withdrawal
from tasks.core.store import FolderStore, open_store
from tasks.core.store.documents import digest
from tests.adire import adire, installed
from tests.candidates import evaluated, measured, trained
from tests.unit.core.lifecycle.test_adopt import DIFFUSERS

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

NOW = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.fixture
def shop(
    model: ModelConfig,
    mlflow_home: "MlflowClient",
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ModelConfig:
    """A model with a name of its own in MLflow, published to another store too."""
    monkeypatch.chdir(tmp_path)
    return adire(name=f"shop-{digest(request.node.name)}", publishing={"store": str(tmp_path / "public")})


@pytest.fixture
def run(shop: ModelConfig, mlflow_home: "MlflowClient") -> str:
    """The MLflow run of the trainings."""
    return str(mlflow_home.create_run(mlflow_home.create_experiment(shop.name)).info.run_id)


def generations(store: FolderStore, shop: ModelConfig, run: str, trainings: str) -> list[Entry]:
    """Promote these trainings in turn, without projections."""
    for training in trainings:
        evaluation = evaluated(store, training, len(history(store, shop.name)), model=shop.name)
        trained(store, training, run, shop.name)
        assert promote(installed(store), shop, PromoteRequest(evaluation=evaluation)).generation
    return history(store, shop.name)


def aliases(client: "MlflowClient", shop: ModelConfig) -> dict[str, str]:
    """The training of each alias's version."""
    held = client.get_registered_model(shop.name).aliases
    return {a: client.get_model_version(shop.name, v).tags["training"] for a, v in held.items()}


def served(url: str, shop: ModelConfig) -> tuple[int, str]:
    channel: Channel | None = read_channel(open_store(url), shop.name)[0]
    assert channel is not None
    return channel.generation, channel.release


def test_reconcile_updates_everything_once(
    folder: FolderStore, shop: ModelConfig, run: str, mlflow_home: "MlflowClient"
) -> None:
    newest = generations(folder, shop, run, "ab")[-1]
    changes = reconcile(installed(folder), shop)
    assert "the champion channel points at generation 2" in changes
    assert f"generation 2 published to {shop.publishing.store}" in changes
    assert served(folder.url, shop) == served(shop.publishing.store, shop) == (2, newest.release)
    assert aliases(mlflow_home, shop) == {"champion": "b", "previous": "a"}
    assert reconcile(installed(folder), shop) == ()


def test_before_the_first_generation_there_is_nothing_to_reconcile(folder: FolderStore, shop: ModelConfig) -> None:
    assert reconcile(installed(folder), shop) == ()
    assert read_channel(folder, shop.name) == (None, None)


def test_a_stale_channel_is_corrected(folder: FolderStore, shop: ModelConfig, run: str) -> None:
    first, second = generations(folder, shop, run, "ab")
    reconcile(installed(folder), shop)
    for store in (folder, open_store(shop.publishing.store)):
        current, version = read_channel(store, shop.name)
        point(store, shop.name, second.model_copy(update={"release": first.release}), current, version)
    assert len(reconcile(installed(folder), shop)) == 2
    assert served(folder.url, shop) == served(shop.publishing.store, shop) == (2, second.release)
    current, version = read_channel(folder, shop.name)
    point(folder, shop.name, second.model_copy(update={"generation": 9}), current, version)
    assert reconcile(installed(folder), shop) == ("the champion channel points at generation 2",)


def test_the_channel_never_points_at_a_damaged_release(folder: FolderStore, shop: ModelConfig, run: str) -> None:
    first = generations(folder, shop, run, "a")[0]
    publish(installed(folder), shop, PublishRequest())
    second = generations(folder, shop, run, "b")[1]
    folder.write(prefix(shop.name, second.release) + WEIGHTS, b"tampered")
    with pytest.raises(ReconcileFailed) as caught:
        reconcile(installed(folder), shop)
    assert {type(fault) for fault in caught.value.faults} == {ReleaseCorrupt}
    assert served(folder.url, shop) == served(shop.publishing.store, shop) == (1, first.release)


def test_a_place_that_is_down_blocks_nothing_else(
    folder: FolderStore, shop: ModelConfig, run: str, mlflow_home: "MlflowClient"
) -> None:
    newest = generations(folder, shop, run, "a")[0]
    broken = adire(name=shop.name, publishing={"hub_repo": "cloth/adire", "store": "ftp://nowhere"})
    with pytest.raises(ReconcileFailed, match=r"2 places could not.*ftp://nowhere.*; .*there is no token") as caught:
        reconcile(installed(folder), broken)
    assert [type(fault) for fault in caught.value.faults] == [PublishRefused, PublishRefused]
    assert "the champion channel points at generation 1" in caught.value.changes
    assert served(folder.url, shop) == (1, newest.release)
    assert aliases(mlflow_home, shop) == {"champion": "a"}
    with pytest.raises(ReconcileFailed, match="1 places could not be reconciled"):
        reconcile(
            installed(folder),
            adire(name=shop.name, publishing={"store": shop.publishing.store, "hub_repo": "cloth/adire"}),
        )
    assert served(shop.publishing.store, shop) == (1, newest.release)


def test_a_release_withdrawn_during_its_promotion_is_rolled_back(
    folder: FolderStore, shop: ModelConfig, run: str
) -> None:
    first, second = generations(folder, shop, run, "ab")
    record_withdrawal(
        folder, shop.name, Withdrawal(release=second.release, training="b", actor="ada", reason="why", time=NOW)
    )
    assert reconcile(installed(folder), shop)[0] == f"generation 3: release {second.release} was withdrawn: why"
    assert served(folder.url, shop) == served(shop.publishing.store, shop) == (3, first.release)


def test_a_withdrawal_is_applied_at_other_places(folder: FolderStore, shop: ModelConfig, run: str) -> None:
    first = generations(folder, shop, run, "ab")[0]
    publish(installed(folder), shop, PublishRequest())
    withdraw(installed(folder), adire(name=shop.name), WithdrawRequest(generation=1, reason="why"))
    reconcile(installed(folder), shop)
    assert open_store(shop.publishing.store).exists(f"models/{shop.name}/withdrawals/{first.release}.json")


def test_after_a_roll_back_the_aliases_name_the_release_served_before(
    folder: FolderStore, shop: ModelConfig, run: str, mlflow_home: "MlflowClient"
) -> None:
    generations(folder, shop, run, "abc")
    roll_back(installed(folder), shop, RollBackRequest())
    sync_mlflow_registry(installed(folder), shop)
    assert aliases(mlflow_home, shop) == {"champion": "b", "previous": "c", "challenger": "c"}
    assert len(mlflow_home.search_model_versions(f"name = '{shop.name}'")) == 3, "a roll-back is no version"


def test_the_alias_challenger_is_the_last_evaluated_version_until_promoted(
    folder: FolderStore, shop: ModelConfig, run: str, mlflow_home: "MlflowClient"
) -> None:
    generations(folder, shop, run, "a")
    trained(folder, "b", run, shop.name)
    evaluation = measured(folder, "b", 1, better=0.0, model=shop.name)
    sync_mlflow_registry(installed(folder), shop)
    assert aliases(mlflow_home, shop) == {"champion": "a", "challenger": "b"}
    promote(installed(folder), shop, PromoteRequest(evaluation=evaluation))
    sync_mlflow_registry(installed(folder), shop)
    version = mlflow_home.get_model_version_by_alias(shop.name, "challenger")
    assert version.tags["verdict"] == "keep"
    assert "not significantly better" in version.description
    promote(installed(folder), shop, PromoteRequest(evaluation=evaluation, actor="ada", reason="I like it"))
    sync_mlflow_registry(installed(folder), shop)
    assert aliases(mlflow_home, shop) == {"champion": "b", "previous": "a"}
    promoted = mlflow_home.get_model_version_by_alias(shop.name, "champion")
    assert promoted.version == version.version, "its version is the release's now"
    expected = {"generation": "2", "actor": "ada", "action": "promote", "dataset": "v1", "evaluation": evaluation}
    assert expected.items() <= promoted.tags.items()
    assert (promoted.description, promoted.run_id) == ("I like it", run)


def test_a_version_is_created_once_and_moved_aliases_are_restored(
    folder: FolderStore, shop: ModelConfig, run: str, mlflow_home: "MlflowClient"
) -> None:
    generations(folder, shop, run, "ab")
    sync_mlflow_registry(installed(folder), shop)
    numbers = {v.version for v in mlflow_home.search_model_versions(f"name = '{shop.name}'")}
    wrong = mlflow_home.get_model_version_by_alias(shop.name, "previous").version
    mlflow_home.set_registered_model_alias(shop.name, "champion", wrong)
    mlflow_home.delete_registered_model_alias(shop.name, "previous")
    mlflow_home.set_registered_model_alias(shop.name, "challenger", wrong)
    mlflow_home.delete_model_version_tag(shop.name, wrong, "generation")
    assert len(sync_mlflow_registry(installed(folder), shop)) == 4
    assert aliases(mlflow_home, shop) == {"champion": "b", "previous": "a"}
    assert {v.version for v in mlflow_home.search_model_versions(f"name = '{shop.name}'")} == numbers
    assert mlflow_home.get_model_version(shop.name, wrong).tags["generation"] == "1"


@pytest.mark.parametrize("tag", ["release", "training"])
def test_two_concurrent_processes_leave_one_version(
    shop: ModelConfig, run: str, mlflow_home: "MlflowClient", tag: str
) -> None:
    one, other = RegisteredModel(shop.name), RegisteredModel(shop.name)
    mine = one.create(run, {tag: "a"})
    assert other.create(run, {tag: "a"}) == mine, "created before either saw the other's"
    assert other.changes == []
    assert [str(v.version) for v in mlflow_home.search_model_versions(f"name = '{shop.name}'")] == [mine]


def test_of_two_versions_of_a_release_the_lower_is_used(
    shop: ModelConfig, run: str, mlflow_home: "MlflowClient"
) -> None:
    first = RegisteredModel(shop.name).create(run, {"release": "a"})
    mlflow_home.create_model_version(shop.name, f"runs:/{run}/adapter", run, tags={"release": "a"})
    shelf = RegisteredModel(shop.name)
    shelf.tags = dict(sorted(shelf.tags.items(), reverse=True))
    assert shelf.of_release("a") == first


def test_under_the_bare_base_there_is_no_champion_and_the_version_is_marked(
    folder: FolderStore, shop: ModelConfig, run: str, mlflow_home: "MlflowClient"
) -> None:
    generations(folder, shop, run, "a")
    sync_mlflow_registry(installed(folder), shop)
    withdraw(installed(folder), shop, WithdrawRequest(generation=1, actor="ada", reason="a picture was removed"))
    sync_mlflow_registry(installed(folder), shop)
    assert aliases(mlflow_home, shop) == {"previous": "a"}
    version = mlflow_home.get_model_version_by_alias(shop.name, "previous")
    assert version.tags["withdrawn"] == "ada: a picture was removed"


def test_an_adopted_lora_has_a_run_of_its_own(
    folder: FolderStore, shop: ModelConfig, mlflow_home: "MlflowClient"
) -> None:
    folder.write(f"adopted/{WEIGHTS}", DIFFUSERS)
    entry = adopt(installed(folder), shop, AdoptRequest(source="adopted", actor="ada"))
    assert sync_mlflow_registry(installed(folder), shop)
    assert sync_mlflow_registry(installed(folder), shop) == []
    (version,) = mlflow_home.search_model_versions(f"name = '{shop.name}'")
    assert (version.tags["release"], version.tags["action"]) == (entry.release, "adopt")
    files = [f.path for f in mlflow_home.list_artifacts(version.run_id, "adapter")]
    assert files == ["adapter/README.md", f"adapter/{WEIGHTS}"]
    assert mlflow_home.get_run(version.run_id).info.status == "FINISHED"
