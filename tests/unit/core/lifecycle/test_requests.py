"""The store's requests of a promotion, a roll-back, a reconcile and a poll do not grow with the history behind them."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deployments.storefront.catalogue import read_catalogue
from deployments.storefront.watchdog import RollbackWatchdog
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest, PublishRequest, RollBackRequest
from tasks.core.installation import Installation
from tasks.core.lifecycle.promote import promote
from tasks.core.lifecycle.publish import publish
from tasks.core.lifecycle.reconcile import reconcile
from tasks.core.lifecycle.roll_back import roll_back
from tasks.core.monitoring.reference import find_record, pin_profile
from tasks.core.retraining.costs import costs_of
from tasks.core.store import FolderStore
from tests import years
from tests.adire import adire, installed
from tests.candidates import QUICK, evaluated
from tests.counting_store import CountingStore
from tests.events_server import EventsServer

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

FEW, MANY = 10, 1000


@pytest.fixture
def grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: EventsServer, mlflow_home: "MlflowClient"
) -> Callable[[int], tuple[FolderStore, ModelConfig]]:
    """A store with so many generations behind it."""
    monkeypatch.chdir(tmp_path)

    def make(generations: int) -> tuple[FolderStore, ModelConfig]:
        model = adire(publishing={"store": str(tmp_path / f"public-{generations}")})
        return years.fill(tmp_path / f"{generations}", model, generations), model

    return make


def counted(store: FolderStore, act: Callable[[Installation], object]) -> Counter[str]:
    """The requests of a process that has read nothing yet."""
    counting = CountingStore(FolderStore(Path(store.url.removeprefix("file://"))))
    act(replace(installed(store), store=counting))
    return counting.requests


def acts(store: FolderStore, model: ModelConfig, number: int) -> Iterator[tuple[str, Callable[[Installation], object]]]:
    request = PromoteRequest(evaluation=evaluated(store, "new", number), gate=QUICK)
    yield "promotion", lambda home: promote(home, model, request)
    yield "publication", lambda home: publish(home, model, PublishRequest())
    reconcile(installed(store), model)  # MLflow's versions are created
    yield "reconcile", lambda home: reconcile(home, model)
    yield "poll", lambda home: RollbackWatchdog(home, model).check_votes()
    yield "catalogue", lambda home: read_catalogue(home.store, model.name, None)
    yield "roll-back", lambda home: roll_back(home, model, RollBackRequest())
    yield "costs", lambda home: costs_of(home.store, model.name, "t0", [])
    yield "reference", lambda home: find_record(home.store, model.name, number, "embedded")
    pin_profile(store, model.name, number, "ada", "the autumn show")
    yield "pin", lambda home: pin_profile(home.store, model.name, number, "ada", "the autumn show")


def test_requests_are_the_same_with_few_and_many_generations(
    grown: Callable[[int], tuple[FolderStore, ModelConfig]],
) -> None:
    few, many = (
        {name: counted(home[0], act) for name, act in acts(*home, number)}
        for number, home in ((n, grown(n)) for n in (FEW, MANY))
    )
    for name, requests in few.items():
        assert many[name].total() <= 1.1 * requests.total(), f"{name}: {many[name] - requests}"
        assert requests.total() > 0
