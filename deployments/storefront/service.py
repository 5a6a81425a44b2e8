"""The storefront's service: renders pictures, logs prompts and votes, and runs the threads for that."""

import asyncio
import io
import logging
import os
import random
import time
import uuid
from functools import partial
from pathlib import Path

from PIL import Image

from deployments.storefront.batch_writer import BatchWriter
from deployments.storefront.engine import Engine, RenderedPicture
from deployments.storefront.errors import RenderUnavailable
from deployments.storefront.feedback import Feedback, ServedPicture
from deployments.storefront.requests import RenderRequest
from deployments.storefront.sessions import Sessions, client_key
from deployments.storefront.spool import Spool
from deployments.storefront.watchdog import RollbackWatchdog
from tasks.core import clock
from tasks.core.config.model import ModelConfig
from tasks.core.installation import Installation
from tasks.core.store.documents import digest
from tasks.core.traffic.feedback import Vote, write_votes
from tasks.core.traffic.prompt_log import PromptLine, hash_session, write_lines
from tasks.core.traffic.redaction import redact

log = logging.getLogger("dyeworks.storefront")


class StorefrontService:
    """The engine, the logs and the watchdog of one storefront."""

    def __init__(self, installation: Installation, model: ModelConfig, sessions: Sessions) -> None:
        self.store, self.settings, self.model = installation.store, installation.settings, model
        self.sessions, spec = sessions, model.preset.rollback
        self.watchdog = RollbackWatchdog(installation, model)
        self.engine = Engine(installation, model, spec.failures, self.watchdog.report, self.exit)
        spools, seconds = spool_folder(installation, model.name), self.settings.log_seconds
        write_prompts, write_feedback = (partial(f, self.store, model.name) for f in (write_lines, write_votes))
        self.prompts = BatchWriter("prompt log", PromptLine, write_prompts, Spool(spools / "prompts"), seconds)
        self.votes = BatchWriter("feedback", Vote, write_feedback, Spool(spools / "feedback"), seconds)
        self.feedback = Feedback(model.name, spec.remembered, self.votes.add, self.watchdog.add)

    def start(self) -> None:
        """Start the engine, the logs and the watchdog."""
        for part in (self.engine, self.prompts, self.votes, self.watchdog):
            part.start()

    def stop(self) -> None:
        """Stop all threads; spooled lines are written."""
        for part in (self.engine, self.prompts, self.votes, self.watchdog):
            part.stop()

    def exit(self) -> None:
        """End the process, so that a supervisor restarts it; queued requests get a response, logs are written."""
        time.sleep(1)
        for part in (self.prompts, self.votes, self.watchdog):
            part.stop()
        logging.shutdown()
        os._exit(1)

    async def render(self, request: RenderRequest, host: str) -> tuple[str, RenderedPicture]:
        """Render a request of an address and log it; returns its id and the picture. Raises RenderUnavailable."""
        start = time.perf_counter()
        seed = request.seed if request.seed is not None else random.randrange(2**32)
        steps = request.steps or self.model.serving.steps
        picture = await self._picture(request.prompt, seed, steps)
        session = self._hash(self.sessions.session_of(host, request.session))
        line = PromptLine(
            request_id=uuid.uuid4().hex,
            model=self.model.name,
            time=clock.now(),
            prompt=redact(request.prompt),
            seed=seed,
            size=picture.image.width,
            steps=steps,
            release=picture.release or "base",
            adapter=picture.release,
            latency_s=round(time.perf_counter() - start, 3),
            session=session,
        )
        self.prompts.add(line)
        voter = session if self.sessions.trusts(host) else self._hash(f"address {client_key(host)}")
        self.feedback.remember(line.request_id, ServedPicture(picture.release, picture.generation, session, voter))
        return line.request_id, picture

    async def _picture(self, prompt: str, seed: int, steps: int) -> RenderedPicture:
        future = self.engine.submit(prompt, seed, steps)
        try:
            return await asyncio.wrap_future(future)
        except RenderUnavailable:
            raise
        except Exception as error:  # any error of a pipeline; the engine has already recorded it against the release
            log.error("rendering failed: %s", error)
            raise RenderUnavailable("rendering failed") from error

    def _hash(self, session: str) -> str:
        return hash_session(session, self.settings.session_key.get_secret_value())

    def health(self) -> dict[str, object]:
        """The served release and its problems; raises RenderUnavailable if nothing can be rendered."""
        if reason := self.engine.not_ready:
            raise RenderUnavailable(reason)
        follower = self.engine.follower
        problem = follower.problem or self.watchdog.problem or self.engine.store_problem
        status = {"status": "degraded", "reason": problem} if problem else {"status": "ok"}
        return {**status, "release": follower.served.release, "generation": follower.served.generation}


def spool_folder(installation: Installation, model: str) -> Path:
    """The folder for the lines of a model of a store, shared by all its storefronts on this machine."""
    return installation.settings.spool_folder / digest(installation.store.url) / model


async def encode(image: Image.Image, kind: str) -> bytes:
    """The bytes of a picture as PNG, or as WebP of quality 90; off the event loop."""
    buffer = io.BytesIO()
    await asyncio.to_thread(image.save, buffer, kind, quality=90)
    return buffer.getvalue()
