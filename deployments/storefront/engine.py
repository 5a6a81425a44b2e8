"""The rendering engine: one thread owns the pipeline, follows the champion, and renders requests in batches."""

import logging
import queue
import tempfile
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tasks.core.errors import DyeworksError
from tasks.core.registry.channel import read_channel
from tasks.core.registry.releases import fetch_release
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

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store, self.settings = store, settings
        self.jobs: queue.Queue[Job] = queue.Queue(maxsize=512)
        self.release, self.generation = "", 0
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
        renderer = Renderer(self.settings)
        while not self.stopping.is_set():
            self._follow(renderer)
            self.ready.set()
            batch = self._gather()
            if batch:
                self._render(renderer, batch)

    def _follow(self, renderer: Renderer) -> None:
        """Serve what the channel points at; when that cannot be loaded, go on with what is served."""
        if time.monotonic() - self.looked < self.settings.poll_seconds:
            return
        self.looked = time.monotonic()
        try:
            channel, _ = read_channel(self.store, self.settings.model)
            if channel is None or (channel.generation, channel.release) == (self.generation, self.release):
                return
            if channel.release:
                with tempfile.TemporaryDirectory() as folder:
                    fetch_release(self.store, self.settings.model, channel.release, Path(folder))
                    renderer.load(Path(folder), channel.release)
            old = self.release
            renderer.activate(channel.release)
            renderer.render([f"a picture in {self.settings.trigger}"], [0], 1, self.settings.render_guidance)
            self.release, self.generation = channel.release, channel.generation
            if old and old != channel.release:
                renderer.unload(old)
            log.info("generation %d (release %s) is served", channel.generation, channel.release or "base")
        except (DyeworksError, OSError) as error:
            renderer.activate(self.release)
            log.error("the champion cannot be loaded, release %s stays: %s", self.release or "base", error)

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

    def _render(self, renderer: Renderer, batch: list[Job]) -> None:
        start = time.perf_counter()
        try:
            prompts, seeds = [j.prompt for j in batch], [j.seed for j in batch]
            images, _ = renderer.render(prompts, seeds, batch[0].steps, self.settings.render_guidance)
        except (DyeworksError, RuntimeError) as error:
            for job in batch:
                job.done.set_exception(error)
            return
        seconds = time.perf_counter() - start
        for job, image in zip(batch, images, strict=True):
            job.done.set_result(Picture(image, self.release, self.generation, seconds))
