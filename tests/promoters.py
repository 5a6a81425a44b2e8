"""Processes that promote at the same moment, round after round; light: neither torch nor MLflow nor Prefect."""

from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

from tasks.core.config.requests import PromoteRequest
from tasks.core.errors import PromotionLost
from tasks.core.lifecycle.promote import promote
from tasks.core.store import Store, open_store
from tests.adire import adire, installed
from tests.candidates import QUICK


def work(orders: Connection, together: Barrier) -> None:
    """Promote each evaluation that is sent, when all others are ready too; report the generation, 0 if it was lost."""
    stores: dict[str, Store] = {}
    while order := orders.recv():
        url, model, evaluation = order
        store = stores[url] = stores.get(url) or open_store(url)
        request = PromoteRequest(evaluation=evaluation, gate=QUICK)
        together.wait()
        try:
            orders.send(promote(installed(store), adire(name=model), request).generation)
        except PromotionLost:
            orders.send(0)


class Promoters:
    """A number of these processes, until `end`."""

    def __init__(self, count: int) -> None:
        context = get_context("spawn")
        self.together = together = context.Barrier(count)
        pipes = [context.Pipe() for _ in range(count)]
        self.ends = [mine for mine, _ in pipes]
        self.processes = [context.Process(target=work, args=(theirs, together), daemon=True) for _, theirs in pipes]
        for process in self.processes:
            process.start()

    def race(self, url: str, model: str, evaluations: list[str]) -> list[int]:
        """Let each promote one of the evaluations at the same moment; returns the generation of each."""
        for end, evaluation in zip(self.ends, evaluations, strict=True):
            end.send((url, model, evaluation))
        return [int(end.recv()) for end in self.ends]

    def end(self) -> None:
        for end in self.ends:
            end.send(None)
        for process in self.processes:
            process.join(timeout=30)
