"""The rendering engine: one thread owns the pipeline, follows the champion, and renders requests in batches."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import torch
from PIL import Image

from deployments.storefront.follower import Follower, Served
from tasks.core.blank import fault_of
from tasks.core.events import Unhealthy
from tasks.core.rendering import Renderer
from tasks.core.settings import Settings
from tasks.core.store import Store

log = logging.getLogger("dyeworks.storefront")


@dataclass(frozen=True)
class Picture:
    """A rendered picture and what rendered it."""

    image: Image.Image
    release: str
    generation: int
    seconds: float


@dataclass(frozen=True)
class Job:
    """A request waiting to be rendered."""

    prompt: str
    seed: int
    steps: int
    done: "Future[Picture]" = field(default_factory=Future)


class Engine:
    """Renders jobs with the champion; with the bare base before the first publication, or where it is the champion."""

    follower: Follower  # once it is ready

    def __init__(self, store: Store, settings: Settings, failures: int, tell: Callable[[Unhealthy], None]) -> None:
        self.store, self.settings, self.failures, self.tell = store, settings, failures, tell
        self.jobs: queue.Queue[Job] = queue.Queue(maxsize=512)
        self.stopping = threading.Event()
        self.ready = threading.Event()
        self.looked = 0.0
        self.thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Load the base model in the engine's thread and begin."""
        self.thread.start()

    def stop(self) -> None:
        """Finish the batch at hand and end."""
        self.stopping.set()
        self.thread.join(timeout=60)

    def submit(self, prompt: str, seed: int, steps: int) -> "Future[Picture]":
        """Queue a request; raises queue.Full when too many wait."""
        job = Job(prompt, seed, steps)
        self.jobs.put_nowait(job)
        return job.done

    def _work(self) -> None:
        self.follower = Follower(self.store, self.settings, Renderer(self.settings), self.failures, self.tell)
        while not self.stopping.is_set():
            self._follow()
            self.ready.set()
            batch = self._gather()
            if batch:
                self._or_stay(partial(self.follower.note, self._render(self.follower, batch)))

    def _follow(self) -> None:
        """Look at the channel; while the store cannot be read, go on with what is served."""
        if time.monotonic() - self.looked < self.settings.poll_seconds:
            return
        self.looked = time.monotonic()
        self._or_stay(self.follower.follow)

    def _or_stay(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:  # the thread's boundary: whatever a store's client raises, pictures are drawn
            log.error("the champion cannot be followed, %s stays: %s", self.follower.served, error)

    def _gather(self) -> list[Job]:
        """Wait for a request, then take all that wait and fit into a batch with it."""
        try:
            batch = [self.jobs.get(timeout=0.2)]
        except queue.Empty:
            return []
        time.sleep(0.02)
        while len(batch) < self.settings.render_batch and not self.jobs.empty():
            job = self.jobs.get_nowait()
            if job.steps != batch[0].steps:
                self._put_back(job)
                break
            batch.append(job)
        return batch

    def _put_back(self, job: Job) -> None:
        with self.jobs.mutex:
            self.jobs.queue.appendleft(job)
            self.jobs.not_empty.notify()

    def _render(self, follower: Follower, batch: list[Job]) -> list[tuple[str, bool]]:
        """Answer the jobs; each prompt and whether it was drawn, a batch that failed as one.

        A batch that does not fit into memory is drawn one by one; what does not fit alone says nothing of the release.
        """
        start, served = time.perf_counter(), follower.served
        prompts, seeds = [j.prompt for j in batch], [j.seed for j in batch]
        try:
            images, _ = follower.renderer.render(prompts, seeds, batch[0].steps, self.settings.render_guidance)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                follower.ailing = f"{served}: {error}"
                batch[0].done.set_exception(error.with_traceback(None))  # whose frames hold memory of the device
                return []
        except Exception as error:  # whatever a pipeline raises, whoever asked is told of it
            for job in batch:
                job.done.set_exception(error)
            return [(prompts[0], False)]
        else:
            return self._answer(batch, images, served, time.perf_counter() - start)
        return [outcome for job in batch for outcome in self._render(follower, [job])]

    def _answer(
        self, batch: list[Job], images: list[Image.Image], served: Served, seconds: float
    ) -> list[tuple[str, bool]]:
        for job, image in zip(batch, images, strict=True):
            job.done.set_result(Picture(image, served.release, served.generation, seconds))
        return [(job.prompt, not fault_of(image)) for job, image in zip(batch, images, strict=True)]
