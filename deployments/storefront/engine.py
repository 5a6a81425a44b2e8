"""The rendering engine: one thread owns the pipeline, follows the champion, and renders requests in batches."""

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import torch
from PIL import Image

from deployments.storefront.errors import RenderUnavailable
from deployments.storefront.follower import Follower, Served
from tasks.core.config.model import ModelConfig
from tasks.core.events import Unhealthy
from tasks.core.installation import Installation
from tasks.core.models.images import image_fault
from tasks.core.models.rendering import Renderer

log = logging.getLogger("dyeworks.storefront")
WAITING = 512  # maximum number of requests queued for the engine, and for the page


@dataclass(frozen=True)
class RenderedPicture:
    """A rendered picture, and the release and generation that rendered it."""

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
    done: "Future[RenderedPicture]" = field(default_factory=Future)


class Engine:
    """Renders jobs with the champion, or with the bare base if that is the champion or nothing is published yet.

    `died` is called in the engine's thread when it ends without `stop`: the process can no longer serve requests.
    """

    follower: Follower  # set when `ready` is

    def __init__(
        self,
        installation: Installation,
        model: ModelConfig,
        failures: int,
        report: Callable[[Unhealthy], None],
        died: Callable[[], None] | None = None,
    ) -> None:
        self.installation, self.model = installation, model
        self.failures, self.report, self.died = failures, report, died
        self.settings = installation.settings
        self.jobs: queue.Queue[Job] = queue.Queue(maxsize=WAITING)
        self.stopping = threading.Event()
        self.ready = threading.Event()
        self.ended = False
        self.polled = -math.inf
        self.store_problem = ""  # why the champion cannot be followed; empty when it can
        self.thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Start the engine's thread, which loads the base model and renders."""
        self.thread.start()

    def stop(self) -> None:
        """Finish the current batch and stop."""
        self.stopping.set()
        self.thread.join(timeout=60)

    @property
    def not_ready(self) -> str:
        """Why nothing can be rendered now; empty when the engine is ready."""
        if self.ended:
            return "the rendering engine has stopped; see its log"
        if not self.ready.is_set():
            return "the base model is loading"
        if not self.follower.serving:
            return self.follower.problem or self.store_problem or "the champion has not been read yet"
        return ""

    def submit(self, prompt: str, seed: int, steps: int) -> "Future[RenderedPicture]":
        """Queue a request; cancelling its future removes it. Raises RenderUnavailable."""
        if reason := self.not_ready:
            raise RenderUnavailable(reason)
        job = Job(prompt, seed, steps)
        try:
            self.jobs.put_nowait(job)
        except queue.Full as error:
            raise RenderUnavailable("too many requests are queued") from error
        if self.ended:  # in the meantime
            self._reject_waiting()
        return job.done

    def _work(self) -> None:
        try:
            self.follower = self._follower()
            while not self.stopping.is_set():
                self._step()
        except BaseException:  # thread boundary: the process must not continue without an engine
            log.critical("the rendering engine has stopped", exc_info=True)
        self.ended = True
        self._reject_waiting()
        if self.died and not self.stopping.is_set():
            self.died()

    def _follower(self) -> Follower:
        renderer = Renderer(self.model.base, self.settings.device)
        return Follower(self.installation, self.model, renderer, self.failures, self.report)

    def _step(self) -> None:
        """Follow the champion and render a batch; an error fails only that batch."""
        batch: list[Job] = []
        try:
            self._follow()
            self.ready.set()
            batch = self._gather()
            if batch:
                self._keep_serving_on_error(partial(self.follower.record, self._render(self.follower, batch)))
        except Exception as error:
            log.exception("a batch of %d could not be rendered", len(batch))
            _fail([job for job in batch if not job.done.done()], error)
            self.stopping.wait(1)

    def _reject_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self.jobs.get_nowait()
                if job.done.set_running_or_notify_cancel():
                    job.done.set_exception(RenderUnavailable(self.not_ready))

    def _follow(self) -> None:
        """Poll the channel; while the store cannot be read, continue with the served release."""
        if time.monotonic() - self.polled < self.settings.poll_seconds:
            return
        self.polled = time.monotonic()
        self.store_problem = self._keep_serving_on_error(self.follower.follow)

    def _keep_serving_on_error(self, action: Callable[[], None]) -> str:
        """Run the action; returns why the served release stays on an error, without details: visitors may see it."""
        try:
            action()
        except Exception as error:  # thread boundary: rendering continues on any error of a store's client
            log.error("the champion cannot be read, %s is still served: %s", self.follower.served, error)
            return "the store cannot be read, so changes of the champion are not seen; see the log"
        return ""

    def _gather(self) -> list[Job]:
        """Wait for a request, then add all queued ones that fit into its batch; cancelled ones are dropped."""
        batch: list[Job] = []
        with contextlib.suppress(queue.Empty):
            first = self.jobs.get(timeout=0.2)
            time.sleep(0.02)
            self._put_back(first)
            while len(batch) < self.settings.render_batch:
                job = self.jobs.get_nowait()
                if batch and job.steps != batch[0].steps:
                    self._put_back(job)
                    break
                if job.done.set_running_or_notify_cancel():
                    batch.append(job)
        return batch

    def _put_back(self, job: Job) -> None:
        with self.jobs.mutex:
            self.jobs.queue.appendleft(job)
            self.jobs.not_empty.notify()

    def _render(self, follower: Follower, batch: list[Job]) -> list[tuple[str, bool]]:
        """Render the jobs; returns each prompt and whether it was rendered; a failed batch counts as one.

        A batch that does not fit into memory is rendered one by one; out of memory is not a fault of the release.
        """
        start, served = time.perf_counter(), follower.served
        prompts, seeds = [j.prompt for j in batch], [j.seed for j in batch]
        try:
            images, _ = follower.renderer.render(prompts, seeds, batch[0].steps, self.model.serving.guidance)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                follower.fault = f"{served}: {error}"
                batch[0].done.set_exception(error.with_traceback(None))  # the frames hold device memory
                return []
        except Exception as error:  # any error of a pipeline is passed on to the requests
            _fail(batch, error)
            return [(prompts[0], False)]
        else:
            return self._answer(batch, images, served, time.perf_counter() - start)
        return [outcome for job in batch for outcome in self._render(follower, [job])]

    def _answer(
        self, batch: list[Job], images: list[Image.Image], served: Served, seconds: float
    ) -> list[tuple[str, bool]]:
        for job, image in zip(batch, images, strict=True):
            job.done.set_result(RenderedPicture(image, served.release, served.generation, seconds))
        return [(job.prompt, not image_fault(image)) for job, image in zip(batch, images, strict=True)]


def _fail(batch: list[Job], error: Exception) -> None:
    for job in batch:
        job.done.set_exception(error)
