"""The storefront: one page and one API call that render with the champion and log the prompt.

`POST /api/render` {"prompt", "seed", "steps", "session"} answers a PNG; the headers X-Request-Id,
X-Release and X-Generation tell what rendered it. Without Prefect in its process.
"""

import asyncio
import io
import queue
import random
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import gradio as gr
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from deployments.storefront.engine import Engine, Picture
from deployments.storefront.log import PromptLog
from tasks.core import clock
from tasks.core.data.prompt_log import PromptLine, hash_session, redact
from tasks.core.errors import ObjectMissing
from tasks.core.reporting.prometheus import CONTENT_TYPE, metrics_key
from tasks.core.settings import get_settings
from tasks.core.store import open_store

settings = get_settings()
store = open_store(settings.store)
engine = Engine(store, settings)
prompt_log = PromptLog(store, settings)


class RenderRequest(BaseModel):
    """A picture that somebody asks for."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=400)
    seed: int | None = Field(None, ge=0, lt=2**32)
    steps: int = Field(settings.render_steps, ge=1, le=100)
    session: str = Field("", max_length=200, description="Visitor's session; only its keyed hash is logged.")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Run the engine and the prompt log beside the server."""
    engine.start()
    prompt_log.start()
    yield
    await asyncio.to_thread(engine.stop)
    await asyncio.to_thread(prompt_log.stop)


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
    return line.request_id, picture


@app.get("/health")
def health() -> dict[str, object]:
    """Whether pictures can be rendered, and with what."""
    if not engine.thread.is_alive():
        raise HTTPException(500, "the rendering engine has stopped; see the log")
    if not engine.ready.is_set():
        raise HTTPException(503, "the base model is loading")
    return {"status": "ok", "release": engine.release, "generation": engine.generation}


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


@app.get("/", include_in_schema=False)
def home() -> RedirectResponse:
    """The page."""
    return RedirectResponse("/shop")


async def _show(prompt: str, request: gr.Request) -> tuple[Image.Image, str]:
    if not prompt.strip():
        raise gr.Error("Say what the cloth should show.")
    _, picture = await draw(RenderRequest(prompt=prompt[:400]), request.session_hash or "page")
    shown = picture.image.resize((512, 512), Image.Resampling.LANCZOS) if picture.image.width < 512 else picture.image
    by = f"generation {picture.generation}" if picture.generation else "the bare base model"
    return shown, f"Drawn by {by} in {picture.seconds:.1f} s."


def build_page() -> gr.Blocks:
    """A prompt, a button, a picture."""
    with gr.Blocks(title="dyeworks") as page:
        gr.Markdown(f"# dyeworks\nAsk for a cloth. Say `{settings.trigger}` for the house style.")
        prompt = gr.Textbox(label="Prompt", value=f"large rings in {settings.trigger}", elem_id="prompt")
        button = gr.Button("Draw", variant="primary", elem_id="draw")
        picture = gr.Image(label="Cloth", height=512, width=512, elem_id="picture")
        says = gr.Markdown(elem_id="says")
        gr.on([button.click, prompt.submit], _show, prompt, [picture, says])
    return page


app = gr.mount_gradio_app(app, build_page(), path="/shop")
