"""Which waiting jobs make the next batch: fair between models, full batches first, and nothing waits for ever.

Jobs of one batch share a forward pass: what they have in common is their recipe, known when the batch is made, since
a release that is switched in the meantime draws what was asked of "the champion".
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from PIL import Image

from deployments.storefront.errors import QueueFull

WAITING = 512  # maximum number of pictures that wait for the engine, and of requests for the page
PATIENCE = 10.0  # seconds after which the oldest job of a model comes first, full batch or not
R = TypeVar("R")


@dataclass(frozen=True)
class Served:
    """A release, and the generation it was promoted as; the empty release of generation 0 is the bare base."""

    release: str = ""
    generation: int = 0

    def __str__(self) -> str:
        return f"generation {self.generation}" if self.generation else "the bare base"


@dataclass(frozen=True)
class RenderOrder:
    """What one picture is to be: by the champion of a model unless `served` is given; width and height in pixels."""

    model: str
    served: Served | None
    prompt: str
    negative: str
    seed: int
    width: int
    height: int
    steps: int
    guidance: float


Recipe = Callable[[RenderOrder], Hashable]  # what the jobs of one batch have in common
Limit = Callable[[RenderOrder], int]  # how many of them a batch has at most


@dataclass(frozen=True)
class RenderedPicture:
    """A picture, what rendered it, the seconds of its batch and those that it waited; a flagged one is not shown."""

    image: Image.Image
    served: Served
    seconds: float
    waited: float
    flagged: bool = False


@dataclass(eq=False)
class Job(Generic[R]):
    """An order that waits, and its result."""

    order: RenderOrder
    done: "Future[R]" = field(default_factory=Future)
    queued: float = field(default_factory=time.monotonic)


class RenderQueue(Generic[R]):
    """The jobs that wait, by model in the order they came, as many as `has_room` allows; cancelled ones leave."""

    def __init__(self, most: int, patience: float = PATIENCE, now: Callable[[], float] = time.monotonic) -> None:
        self.most, self.patience, self.now = most, patience, now
        self.jobs: dict[str, list[Job[R]]] = {}
        self.spent: dict[str, float] = {}  # seconds of rendering, by model
        self.clock = 0.0  # the most that a model had when its turn came: nobody enters with less
        self.changed = threading.Condition()

    @property
    def waiting(self) -> Counter[str]:
        """The number of jobs by model."""
        with self.changed:
            return Counter({model: len(jobs) for model, jobs in self.jobs.items()})

    def put(self, jobs: list[Job[R]]) -> None:
        """Add the jobs of one request, or none of them; raises QueueFull."""
        with self.changed:
            if not self.has_room(jobs[0].order.model, len(jobs)):
                raise QueueFull(self.most)
            for job in jobs:
                self._enter(job.order.model)
                self.jobs[job.order.model].append(job)
            self.changed.notify_all()
        for job in jobs:
            job.done.add_done_callback(lambda _, job=job: self._discard(job))  # type: ignore[misc]

    def has_room(self, model: str, number: int) -> bool:
        """Whether so many pictures may wait; beyond `most` those of a model that has little waiting, whoever floods."""
        with self.changed:
            reserve = self.most // (2 * max(len(self.jobs.keys() | {model}), 1))
            return len(self) + number <= self.most or len(self.jobs.get(model, ())) + number <= reserve

    def __len__(self) -> int:
        with self.changed:
            return sum(map(len, self.jobs.values()))

    def wait(self, seconds: float, number: int = 1, unless: Callable[[], object] = lambda: False) -> None:
        """Wait until so many jobs wait, or `unless` holds."""
        with self.changed:
            self.changed.wait_for(lambda: len(self) >= number or unless(), seconds)

    def wake(self) -> None:
        """Let all waits look again."""
        with self.changed:
            self.changed.notify_all()

    def take(self, recipe: Recipe, most: Limit) -> list[Job[R]]:
        """Remove and return the next batch: jobs of one recipe, at most `most`, marked as running; empty if none wait.

        The model is the one on which the least time was spent; its recipe is that of the most jobs, unless the oldest
        has waited for longer than `patience`.
        """
        with self.changed:
            batch: list[Job[R]] = []
            while not batch and (waiting := [model for model, jobs in self.jobs.items() if jobs]):
                model = min(waiting, key=lambda model: self.spent[model])
                self.clock = max(self.clock, self.spent[model])
                batch = self._next(model, recipe, most)
            return batch

    def charge(self, model: str, seconds: float) -> None:
        """Count the time that was spent on a model."""
        with self.changed:
            self.spent[model] = self.spent.get(model, 0.0) + seconds

    def clear(self) -> list[Job[R]]:
        """Remove and return all jobs, marked as running."""
        with self.changed:
            jobs = [job for jobs in self.jobs.values() for job in jobs]
            self.jobs.clear()
        return [job for job in jobs if job.done.set_running_or_notify_cancel()]

    def _next(self, model: str, recipe: Recipe, most: Limit) -> list[Job[R]]:
        jobs = self.jobs[model]
        recipes = [recipe(job.order) for job in jobs]
        limits = {each: most(job.order) for each, job in zip(recipes, jobs, strict=True)}
        chosen = recipes[0]
        if self.now() - jobs[0].queued < self.patience:
            sizes = Counter(recipes)
            chosen = max(sizes, key=lambda each: min(sizes[each], limits[each]))  # the oldest of equals
        taken = [job for each, job in zip(recipes, jobs, strict=True) if each == chosen][: limits[chosen]]
        self.jobs[model] = [job for job in jobs if job not in taken]
        return [job for job in taken if job.done.set_running_or_notify_cancel()]

    def _enter(self, model: str) -> None:
        """A model that had nothing waiting has no claim on the time that it did not use."""
        if not self.jobs.setdefault(model, []):
            self.spent[model] = max(self.spent.get(model, 0.0), self.clock)

    def _discard(self, job: Job[R]) -> None:
        if job.done.cancelled():
            with self.changed:
                jobs = self.jobs.get(job.order.model, [])
                if job in jobs:
                    jobs.remove(job)
