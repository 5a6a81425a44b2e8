"""Processes that decide on retrains at the same moment, round after round; light: neither torch nor Prefect."""

import time
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.data.dataset import Item, Manifest
from tasks.core.monitoring.records import DriftRecord
from tasks.core.retraining import leases
from tasks.core.retraining.causes import RetrainInFlight, decide_by_hand, decide_on_data, decide_on_drift
from tasks.core.retraining.decisions import Action, RetrainDecision, make_decision, record_decision
from tasks.core.store import Store, open_store
from tests.adire import adire

VALID = timedelta(seconds=0.5)  # a lease, so that a test can wait for its end
POLICY = {"hits": 1, "of": 1, "cooldown_hours": 0, "weekly_gpu_hours": 1.5, "expected_gpu_hours": 0.25}
PICTURES = 100  # of every version: more than start a retrain
START = datetime(2026, 1, 1, tzinfo=UTC)
DECIDERS = ("drift", "data", "person")


def model_named(name: str) -> ModelConfig:
    return adire(name=name, overrides={"policy": POLICY})


def time_of(number: int) -> datetime:
    """Rounds are six hours apart, so that the weekly budget runs out and is free again."""
    return START + number * timedelta(hours=6)


def decide(store: Store, model: ModelConfig, who: str, number: int) -> RetrainDecision | None:
    if who == "drift":
        return decide_on_drift(store, model, record_of(model.name, number), model.preset.policy)
    if who == "data":
        return decide_on_data(store, model, manifest_of(model.dataset, number))
    if number % 20 in {3, 5}:
        action: Action = "pause" if number % 20 == 3 else "resume"
        word = make_decision("operator", clock.now(), (action, "ada"), f"round {number}")
        return record_decision(store, model.name, word)
    try:
        return decide_by_hand(store, model, f"run {number}") if number % 7 == 1 else None
    except RetrainInFlight:
        return None


def record_of(model: str, number: int) -> DriftRecord:
    """A check that found drift."""
    now = time_of(number)
    return DriftRecord(
        key=f"models/{model}/drift/reports/{number}/report.json",
        model=model,
        time=now,
        start=now - timedelta(days=1),
        end=now,
        generation=0,
        verdict="retrain",
        says="drift",
        requests=500,
        reference_requests=4000,
        drift=None,
    )


def manifest_of(dataset: str, number: int) -> Manifest:
    """A version, all of whose pictures are new."""
    items = tuple(Item(sha256=f"{number}-{i}", caption="", name=f"{i}.png") for i in range(PICTURES))
    return Manifest(dataset=dataset, version=f"v{number}", created=START, items=items, new=PICTURES)


def at(number: int) -> None:
    """Turn this process's clocks to a round."""
    clock.now = lambda: time_of(number)
    leases.VALID = VALID


def decider(orders: Connection, together: Barrier, who: str) -> None:
    """Decide in each round that is sent, when all others are ready too; send the decision."""
    stores: dict[str, Store] = {}
    while order := orders.recv():
        url, model, number = order
        store = stores[url] = stores.get(url) or open_store(url)
        at(number)
        together.wait()
        orders.send(decide(store, model_named(model), who, number))


def holder(orders: Connection) -> None:
    """Hold the lease of each retrain that is sent until it is killed, or told to go on."""
    while order := orders.recv():
        url, model, decision = order
        at(0)
        leases.renew(open_store(url), model, decision)
        orders.send(True)
        while not orders.poll(VALID.total_seconds() / 5):
            leases.renew(open_store(url), model, decision)


class Deciders:
    """One process for each decider, until `end`."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.together = together = context.Barrier(len(DECIDERS))
        pipes = [context.Pipe() for _ in DECIDERS]
        self.ends = [mine for mine, _ in pipes]
        self.processes = [
            context.Process(target=decider, args=(theirs, together, who), daemon=True)
            for (_, theirs), who in zip(pipes, DECIDERS, strict=True)
        ]
        for process in self.processes:
            process.start()

    def race(self, url: str, model: str, number: int) -> list[RetrainDecision]:
        """What was decided in a round."""
        for end in self.ends:
            end.send((url, model, number))
        return [decision for end in self.ends if (decision := end.recv())]

    def end(self) -> None:
        for end in self.ends:
            end.send(None)
        for process in self.processes:
            process.join(timeout=30)


class Holder:
    """A process that holds leases; started again after it was killed."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        context = get_context("spawn")
        self.orders, theirs = context.Pipe()
        self.process = context.Process(target=holder, args=(theirs,), daemon=True)
        self.process.start()

    def hold(self, url: str, model: str, decision: str) -> None:
        self.orders.send((url, model, decision))
        assert self.orders.recv()

    def kill(self) -> None:
        """SIGKILL while it holds a lease, which then ends."""
        self.process.kill()
        self.process.join()
        time.sleep(VALID.total_seconds() * 1.2)
        self.start()

    def end(self) -> None:
        self.process.kill()
        self.process.join()
