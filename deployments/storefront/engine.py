"""The rendering engine: one thread owns the pipeline of a base, and renders what waits in batches.

Everything it does lies inside a guard; when it can't go on, it says so by `died`, and the process ends.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from PIL import Image

from deployments.problems import ApiError
from deployments.storefront.adapters import AdapterCache
from deployments.storefront.errors import QueueFull, ReleaseUnavailable, RenderUnavailable
from deployments.storefront.metrics import Metrics
from deployments.storefront.render_queue import WAITING, Job, RenderedPicture, RenderOrder, RenderQueue, Served
from tasks.core.config.installation import Settings
from tasks.core.errors import ModelUnusable
from tasks.core.models.images import image_fault
from tasks.core.models.rendering import Renderer
from tasks.core.models.safety import PicturesUnchecked, SafetyChecker, checker_source

log = logging.getLogger("dyeworks.storefront")
T = TypeVar("T")
PAUSE = 0.02  # of the time of a batch, for which its clients are awaited before the next one begins
LONGEST_PAUSE = 0.1  # seconds
Outcomes = list[tuple[str, bool]]  # prompts, and whether they were rendered


class Releases(Protocol):
    """What the engine asks about models; called in its thread, and never waits for the store."""

    def champion(self, model: str) -> Served | None:
        """The release that is served; None while there is none."""

    def folder(self, model: str, release: str) -> Path:
        """The local folder of a release that was fetched."""

    def pinned(self) -> set[str]:
        """The releases that stay in memory."""

    def record(self, model: str, served: Served, outcomes: Outcomes) -> None:
        """Take note of renders of a release."""

    def checks_safety(self, model: str) -> bool:
        """Whether its pictures pass the safety checker."""

    def record_shortage(self, model: str, served: Served, problem: str) -> None:
        """Take note of a single picture that did not fit into memory."""


class Engine:
    """Renders jobs; `died` is called in its thread when it ends without `stop`: the process can no longer serve."""

    adapters: AdapterCache  # set when `loaded` is

    def __init__(
        self,
        base: str,
        settings: Settings,
        releases: Releases,
        metrics: Metrics | None = None,
        died: Callable[[], None] = lambda: None,
        *,
        safety: bool = False,
    ) -> None:
        self.base, self.settings, self.releases, self.died, self.safety = base, settings, releases, died, safety
        self.metrics = metrics or Metrics()
        self.queue: RenderQueue[RenderedPicture] = RenderQueue(WAITING)
        self.actions: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self.loaded, self.stopping = threading.Event(), threading.Event()
        self.ended = False
        self.own_size = (0, 0)  # width and height that the base was made for; set when `loaded` is
        self.running = 0  # pictures of the current batch
        self.checker: SafetyChecker | None = None
        self.largest: dict[tuple[int, int], int] = {}  # by size: the batch that fitted into memory
        self.pace = 0.0  # seconds a picture, smoothed
        self.batch_ended, self.batch_pause, self.expected = 0.0, 0.0, 0  # of the last batch
        self.thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Start the engine's thread, which loads the base model and renders."""
        self.thread.start()

    def stop(self) -> None:
        """Finish the current batch and stop."""
        self.stopping.set()
        self.queue.wake()
        if self.thread.is_alive():
            self.thread.join(timeout=60)

    @property
    def not_ready(self) -> str:
        """Why nothing can be rendered now; empty when the engine is ready."""
        if self.ended:
            return "the rendering engine has stopped; see its log"
        return "" if self.loaded.is_set() else "the base model is loading"

    @property
    def wait_seconds(self) -> float:
        """How long the pictures that wait will take, by the measured rate."""
        return len(self.queue) * self.pace

    def require_room(self, model: str, number: int) -> None:
        """Raise what `submit` would raise for so many pictures."""
        if reason := self.not_ready:
            raise RenderUnavailable(reason)
        if not self.queue.has_room(model, number):
            raise QueueFull(WAITING, self.wait_seconds / 2)

    def submit(self, orders: list[RenderOrder]) -> "list[Future[RenderedPicture]]":
        """Queue the pictures of one request; cancelling a future removes its job.

        Raises:
            RenderUnavailable: the engine is not ready.
            QueueFull: too many pictures wait.
        """
        self.require_room(orders[0].model, len(orders))
        jobs = [Job[RenderedPicture](order) for order in orders]
        self.queue.put(jobs)
        if self.ended:  # in the meantime
            self._reject_waiting()
        return [job.done for job in jobs]

    def call(self, action: Callable[[], T]) -> T:
        """Run an action in the engine's thread between two batches, and return its result; its errors are raised here.

        Raises:
            RenderUnavailable: the engine is not ready, or has stopped in the meantime.
        """
        if reason := self.not_ready:
            raise RenderUnavailable(reason)
        done: Future[T] = Future()
        self.actions.append((action, done))  # type: ignore[arg-type]
        self.queue.wake()
        if self.ended:
            self._reject_waiting()
        return done.result()

    def _work(self) -> None:
        try:
            renderer = Renderer(self.base, self.settings.device, fast=True)
            self.adapters = AdapterCache(
                renderer, self.settings.adapters, self.releases.pinned, self.metrics.adapter_load.observe
            )
            if self.safety:
                self.checker = SafetyChecker(
                    checker_source(self.base, self.settings.safety_checker), self.settings.device
                )
            renderer.render(["a picture"], [0], 1, 2.0)  # the first forward pass takes seconds
            self.own_size = renderer.side, renderer.side
            self.loaded.set()
            while not self.stopping.is_set():
                self._step()
        except BaseException:  # thread boundary: the process must not continue without an engine
            log.critical("the rendering engine has stopped", exc_info=True)
        self.ended = True
        try:
            self._reject_waiting()
        finally:
            if not self.stopping.is_set():
                self.died()

    def _step(self) -> None:
        """Do what was asked between batches, and render a batch; an error fails only that batch."""
        batch: list[Job[RenderedPicture]] = []
        try:
            self._act()
            self.queue.wait(0.5, unless=lambda: self.actions or self.stopping.is_set())
            self._linger()
            champion = cache(self.releases.champion)  # one answer a batch: another thread may switch it
            if not self.actions and (batch := self.queue.take(partial(_recipe, champion), self._limit)):
                self._draw(batch, batch[0].order.served or champion(batch[0].order.model))
        except Exception:
            log.exception("a batch of %d could not be rendered", len(batch))
            _fail([job for job in batch if not job.done.done()], RenderUnavailable("rendering failed"))
            self.stopping.wait(1)

    def _linger(self) -> None:
        """Wait a moment for the clients of the last batch, whose next requests may fill this one."""
        left = self.batch_ended + self.batch_pause - time.monotonic()
        if left > 0 and len(self.queue):
            self.queue.wait(left, min(self.expected, self.settings.render_batch), lambda: self.actions)
        self.batch_pause = 0.0

    def _act(self) -> None:
        """Do what was asked between two batches."""
        while self.actions:
            with suppress(IndexError):  # another thread has rejected it
                _resolve(*self.actions.popleft())

    def _limit(self, order: RenderOrder) -> int:
        return self.largest.get((order.width, order.height), self.settings.render_batch)

    def _draw(self, batch: list[Job[RenderedPicture]], served: Served | None) -> None:
        """Render the jobs of one recipe."""
        model, start, self.running = batch[0].order.model, time.monotonic(), len(batch)
        try:
            if served is None:
                raise RenderUnavailable("no release is served")
            outcomes = self._render(batch, served, start)
            if outcomes:
                self.releases.record(model, served, outcomes)
        except ApiError as error:
            _fail([job for job in batch if not job.done.done()], error)
        finally:
            self.running = 0
            self._charge(model, len(batch), time.monotonic() - start)

    def _charge(self, model: str, number: int, seconds: float) -> None:
        """Count the time of a batch: for fairness, and for the pause after it."""
        self.queue.charge(model, seconds)
        self.batch_ended, self.expected = time.monotonic(), len(self.queue) + number
        self.batch_pause = min(PAUSE * seconds, LONGEST_PAUSE)

    def _render(self, batch: list[Job[RenderedPicture]], served: Served, start: float) -> Outcomes:
        """Render the jobs with a release; returns each prompt and whether it was rendered, a failed batch as one.

        A batch that does not fit into memory is halved, which is remembered; out of memory is no fault of the release.
        """
        self._use(batch[0].order.model, served)
        try:
            images = self._images([job.order for job in batch])
            flags = self._flags(batch[0].order.model, images)
        except torch.OutOfMemoryError as error:
            self._shrink(batch, served, error)
        except PicturesUnchecked as error:
            raise RenderUnavailable(str(error)) from error
        except Exception as error:  # any error of a pipeline is passed on to the requests
            log.error("rendering with %s of %s failed: %s", served, batch[0].order.model, error)
            _fail(batch, RenderUnavailable("rendering failed"))
            return [(batch[0].order.prompt, False)]
        else:
            return self._answer(batch, images, flags, served, start)
        halves = (batch[: len(batch) // 2], batch[len(batch) // 2 :]) if len(batch) > 1 else ()
        return [outcome for half in halves for outcome in self._render(half, served, start)]

    def _use(self, model: str, served: Served) -> None:
        folder = self.releases.folder(model, served.release) if served.release else Path()
        try:
            self.adapters.use(served.release, folder)
        except torch.OutOfMemoryError as error:
            self.releases.record_shortage(model, served, str(error))
            raise RenderUnavailable("the device is out of memory") from error
        except ModelUnusable as error:
            log.error("%s of %s cannot be loaded: %s", served, model, error)
            raise ReleaseUnavailable(f"{model}@{served.generation}", "it is no LoRA for this base") from error

    def _images(self, orders: list[RenderOrder]) -> list[Image.Image]:
        first = orders[0]
        images, _ = self.adapters.renderer.render(
            [order.prompt for order in orders],
            [order.seed for order in orders],
            first.steps,
            first.guidance,
            (first.width, first.height),
            [order.negative for order in orders] if first.negative else None,  # SDXL takes none for another than empty
        )
        return images

    def _flags(self, model: str, images: list[Image.Image]) -> list[bool]:
        """Whether each picture must not be shown."""
        if not self.releases.checks_safety(model):
            return [False] * len(images)
        if self.checker is None:
            raise PicturesUnchecked("it was not loaded")
        return self.checker.flags(images)

    def _shrink(self, batch: list[Job[RenderedPicture]], served: Served, error: torch.OutOfMemoryError) -> None:
        order = batch[0].order
        if len(batch) > 1:
            self.largest[order.width, order.height] = len(batch) // 2
            log.warning("%d pictures of %dx%d do not fit into memory", len(batch), order.width, order.height)
            return
        self.releases.record_shortage(order.model, served, str(error))
        _fail(batch, RenderUnavailable("the device is out of memory"))

    def _answer(
        self,
        batch: list[Job[RenderedPicture]],
        images: list[Image.Image],
        flags: list[bool],
        served: Served,
        start: float,
    ) -> Outcomes:
        now = time.monotonic()
        each = (now - start) / len(batch)
        self.pace = each if not self.pace else 0.8 * self.pace + 0.2 * each  # for Retry-After
        self.metrics.observe_batch(len(batch), [start - job.queued for job in batch])
        for job, image, flagged in zip(batch, images, flags, strict=True):
            job.done.set_result(RenderedPicture(image, served, now - start, start - job.queued, flagged))
        return [(job.order.prompt, not image_fault(image)) for job, image in zip(batch, images, strict=True)]

    def _reject_waiting(self) -> None:
        _fail(self.queue.clear(), RenderUnavailable(self.not_ready))
        while self.actions:
            with suppress(IndexError):  # another thread has rejected it
                self.actions.popleft()[1].set_exception(RenderUnavailable(self.not_ready))


def _recipe(champion: Callable[[str], Served | None], order: RenderOrder) -> Hashable:
    """What the jobs of one forward pass have in common, also the generation that they will name."""
    served = order.served or champion(order.model)
    return served, order.width, order.height, order.steps, order.guidance, bool(order.negative)


def _resolve(action: Callable[[], object], done: "Future[object]") -> None:
    try:
        done.set_result(action())
    except BaseException as error:  # passed on to the caller's thread, whatever it is
        done.set_exception(error)
        if not isinstance(error, Exception):
            raise


def _fail(batch: list[Job[RenderedPicture]], error: Exception) -> None:
    for job in batch:
        job.done.set_exception(error.with_traceback(None))  # the frames may hold device memory
