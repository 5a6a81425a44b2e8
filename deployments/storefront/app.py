"""The storefront: one page and one API call that render with the champion and log the prompt.

`POST /api/render` {"prompt", "seed", "steps", "session"} answers a PNG; the headers X-Request-Id,
X-Release and X-Generation tell what rendered it. `POST /api/feedback` {"request_id", "liked"} takes a vote on it.
Without Prefect in its process.
"""

import asyncio
import io
import queue
import random
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import gradio as gr
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from deployments.storefront.engine import Engine, Picture
from deployments.storefront.feedback import Drawn, Feedback
from deployments.storefront.guard import Guard
from deployments.storefront.log import LogWriter
from deployments.storefront.page import CSS, build_page
from tasks.core import clock
from tasks.core.data.feedback import Vote, write_votes
from tasks.core.data.prompt_log import PromptLine, hash_session, redact, write_lines
from tasks.core.errors import ObjectMissing, PictureUnknown
from tasks.core.reporting.prometheus import CONTENT_TYPE, metrics_key
from tasks.core.settings import get_settings
from tasks.core.specs import load_preset
from tasks.core.store import open_store

settings = get_settings()
store = open_store(settings.store)
spec = load_preset().guard
guard = Guard(store, settings, spec)
engine = Engine(store, settings, spec.failures, guard.report)
prompt_log = LogWriter[PromptLine]("prompt log", partial(write_lines, store, settings.model), settings.log_seconds)
vote_log = LogWriter[Vote]("feedback", partial(write_votes, store, settings.model), settings.log_seconds)
feedback = Feedback(spec.remembered, vote_log.add, guard.add)


class RenderRequest(BaseModel):
    """A picture that somebody asks for."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=400)
    seed: int | None = Field(None, ge=0, lt=2**32)
    steps: int = Field(settings.render_steps, ge=1, le=100)
    session: str = Field("", max_length=200, description="Visitor's session; only its keyed hash is logged.")


class FeedbackRequest(BaseModel):
    """What somebody says of a picture that was drawn for them."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(max_length=100, description="The X-Request-Id of the picture.")
    liked: bool = Field(description="Whether they like it.")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Run the engine, the logs and the guards beside the server."""
    parts = (engine, prompt_log, vote_log, guard)
    for part in parts:
        part.start()
    yield
    for part in parts:
        await asyncio.to_thread(part.stop)


app = FastAPI(title="dyeworks storefront", lifespan=lifespan)


async def draw(request: RenderRequest, visitor: str) -> tuple[str, Picture]:
    """Render a request and log it; the request's id and the picture. 503 when too many wait.

    `visitor` stands for the session where none is given: whoever leaves it out must not count as many.
    """
    start = time.perf_counter()
    seed = request.seed if request.seed is not None else random.randrange(2**32)
    try:
        future = engine.submit(request.prompt, seed, request.steps)
    except queue.Full as error:
        raise HTTPException(503, "too many requests wait; try again in a moment") from error
    picture = await asyncio.wrap_future(future)
    line = PromptLine(
        request_id=uuid.uuid4().hex,
        time=clock.now(),
        prompt=redact(request.prompt),
        seed=seed,
        size=picture.image.width,
        steps=request.steps,
        release=picture.release or "base",
        adapter=picture.release,
        latency_s=round(time.perf_counter() - start, 3),
        session=hash_session(request.session or visitor, settings.session_key.get_secret_value()),
    )
    prompt_log.add(line)
    feedback.remember(line.request_id, Drawn(picture.release, picture.generation, line.session))
    return line.request_id, picture


@app.get("/health")
def health() -> dict[str, object]:
    """Whether pictures can be rendered, and with what."""
    if not engine.thread.is_alive():
        raise HTTPException(500, "the rendering engine has stopped; see the log")
    if not engine.ready.is_set():
        raise HTTPException(503, "the base model is loading")
    served, trouble = engine.follower.served, engine.follower.trouble or guard.trouble
    told = {"status": "degraded", "reason": trouble} if trouble else {"status": "ok"}
    return {**told, "release": served.release, "generation": served.generation}


@app.get("/metrics", include_in_schema=False)
def metrics() -> Response:
    """The last drift check and the retrains, for Prometheus; 404 before the first check."""
    try:
        text = store.read(metrics_key(settings.model))
    except ObjectMissing as error:
        raise HTTPException(404, "no drift check has been made yet") from error
    return Response(text, media_type=CONTENT_TYPE)


@app.post("/api/render")
async def render(request: RenderRequest, http: Request) -> Response:
    """A PNG of the prompt."""
    identity, picture = await draw(request, f"address {http.client.host if http.client else 'unknown'}")
    buffer = io.BytesIO()
    picture.image.save(buffer, "PNG")
    told = {
        "X-Request-Id": identity,
        "X-Release": picture.release or "base",
        "X-Generation": str(picture.generation),
    }
    return Response(buffer.getvalue(), media_type="image/png", headers=told)


@app.post("/api/feedback", status_code=204)
def judge(said: FeedbackRequest) -> None:
    """A vote on a picture that was drawn here; of the votes on one the last counts."""
    try:
        feedback.vote(said.request_id, said.liked)
    except PictureUnknown as error:
        raise HTTPException(404, str(error)) from error


@app.get("/", include_in_schema=False)
def home() -> RedirectResponse:
    """The page."""
    return RedirectResponse("/shop")


async def show(prompt: str, visitor: str) -> tuple[str, Picture]:
    """A picture for the page, logged as any other; its request's id, and the picture."""
    return await draw(RenderRequest(prompt=prompt[:400]), visitor)


app = gr.mount_gradio_app(app, build_page(settings.trigger, show, feedback.vote), path="/shop", css=CSS)
