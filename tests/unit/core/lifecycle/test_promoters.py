"""Eight promoters over fifty rounds, on both stores: one wins each round, and all projections match the ledger."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tasks.core.config.model import ModelConfig
from tasks.core.lifecycle.reconcile import reconcile
from tasks.core.registry.channel import read_channel
from tasks.core.registry.ledger import history
from tasks.core.store import Store, open_store
from tests.adire import adire, installed
from tests.candidates import measured, trained
from tests.promoters import Promoters

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

COUNT = 8


@pytest.fixture(scope="module")
def promoters(bucket: str) -> Iterator[Promoters]:
    """The processes, configured for the S3 server."""
    found = Promoters(COUNT)
    yield found
    found.end()


@pytest.fixture(params=["folder", "s3"])
def shop(request: pytest.FixtureRequest, bucket: str, tmp_path: Path) -> tuple[str, ModelConfig]:
    """A store's URL, and a model."""
    place = str(tmp_path / "store") if request.param == "folder" else f"s3://{bucket}/{uuid4().hex}"
    return place, adire(name=f"raced-{uuid4().hex[:8]}")


@pytest.mark.parametrize("rounds", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_one_wins_each_round(
    rounds: int,
    shop: tuple[str, ModelConfig],
    promoters: Promoters,
    mlflow_home: "MlflowClient",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (url, model), store = shop, open_store(shop[0])
    home = mlflow_home.create_experiment(uuid4().hex)
    run = mlflow_home.create_run(home).info.run_id
    names = [[f"{i}-{turn}" for i in range(COUNT)] for turn in range(2)]  # so none is compared with itself
    for name in (name for turn in names for name in turn):
        trained(store, name, run, model.name)
    winners = []
    for number in range(rounds):
        keys = [
            measured(store, name, number, name=f"{number:03}-{name}", model=model.name) for name in names[number % 2]
        ]
        got = promoters.race(url, model.name, keys)
        assert sorted(got) == [0] * (COUNT - 1) + [number + 1], "one has won, the others raised PromotionLost"
        winners.append(keys[got.index(number + 1)])
    entries = history(open_store(url), model.name)
    assert [e.generation for e in entries] == list(range(1, rounds + 1))
    assert [e.evaluation for e in entries] == winners
    follows(open_store(url), model, mlflow_home)


def follows(store: Store, model: ModelConfig, client: "MlflowClient") -> None:
    """Reconcile; then channel and aliases match the ledger."""
    assert reconcile(installed(store), model)
    newest = history(store, model.name)[-1]
    channel, _ = read_channel(store, model.name)
    assert channel is not None
    assert (channel.generation, channel.release) == (newest.generation, newest.release)
    version = client.get_model_version_by_alias(model.name, "champion")
    assert version.tags["release"] == newest.release
    assert version.tags["generation"] == str(newest.generation)
    releases = [e.release for e in history(store, model.name)]
    before = next(r for r in reversed(releases) if r != newest.release)
    assert client.get_model_version_by_alias(model.name, "previous").tags["release"] == before
