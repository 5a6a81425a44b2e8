"""The storefront: a page and an API that render with the champion and log the prompts.

`POST /api/render` {"prompt", "seed", "steps", "session"} returns a PNG; the headers X-Request-Id,
X-Release and X-Generation identify the request and the model. `POST /api/feedback` {"request_id", "liked"} records a
vote on it. The process does not import Prefect.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

import gradio as gr
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response

from deployments.exposure import ExposureGuard
from deployments.storefront.engine import RenderedPicture
from deployments.storefront.errors import PictureUnknown, RenderUnavailable, VotesExhausted
from deployments.storefront.page import CSS, build_page, is_overloaded, set_trigger
from deployments.storefront.request_filter import RequestFilter, problems
from deployments.storefront.requests import FeedbackRequest, RenderRequest
from deployments.storefront.service import StorefrontService, encode
from deployments.storefront.sessions import Sessions
from tasks.core.config.installation import Settings
from tasks.core.errors import ObjectMissing
from tasks.core.installation import open_installation
from tasks.core.reporting.metrics import CONTENT_TYPE, metrics_key
from tasks.core.traffic.feedback import Vote

log = logging.getLogger("dyeworks.storefront")
T = TypeVar("T")
SCRAPES = 2  # concurrent requests to /metrics, so that a hanging store blocks at most so many threads


class Storefront:
    """The API of one model. Until the store can be opened and has the model, every request gets a 503.

    Raises:
        SettingError: the trusted addresses cannot be parsed.
    """

    def __init__(self, settings: Settings, model: str) -> None:
        self.settings, self.model, self.sessions = settings, model, Sessions(settings.trusted_addresses)
        self.opened: StorefrontService | None = None
        self.closing = threading.Event()
        self.scrapes = threading.BoundedSemaphore(SCRAPES)
        self.page = build_page(
            settings.render_batch, self.draw, lambda picture: encode(picture.image, "WEBP"), self.vote
        )

    @property
    def service(self) -> StorefrontService:
        """The rendering service; raises RenderUnavailable until the store is open."""
        if self.opened is None:
            raise RenderUnavailable("the store cannot be opened, or has no such model; see the log")
        return self.opened

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the service for the lifetime of the server."""
        opening = threading.Thread(target=self._open, name="opening", daemon=True)
        opening.start()
        yield
        self.closing.set()
        await asyncio.to_thread(opening.join, 60)
        if self.opened:
            await asyncio.to_thread(self.opened.stop)

    def _open(self) -> None:
        while not self.closing.is_set():
            try:
                installation = open_installation(self.settings)
                service = StorefrontService(installation, installation.model(self.model), self.sessions)
            except Exception as error:  # thread boundary: retried on any error of a store's client
                log.error("the store cannot be opened: %s", error)
                self.closing.wait(self.settings.poll_seconds)
            else:
                service.start()
                set_trigger(self.page, service.model.trigger)
                self.opened = service
                return

    async def health(self) -> dict[str, object]:
        """Whether pictures can be rendered, and with which generation."""
        return self.service.health()

    def metrics(self) -> Response:
        """The last drift check and the retrains, for Prometheus; 404 before the first check."""
        store = self.service.store
        if not self.scrapes.acquire(blocking=False):
            raise HTTPException(503, "the store is slow; retry later", {"Retry-After": "30"})
        try:
            text = store.read(metrics_key(self.service.model.name))
        except ObjectMissing as error:
            raise HTTPException(404, "no drift check has run yet") from error
        except Exception as error:  # request boundary: any error of a store's client
            log.error("the metrics cannot be read: %s", error)
            raise HTTPException(503, "the store cannot be read; see the log", {"Retry-After": "30"}) from error
        finally:
            self.scrapes.release()
        return Response(text, media_type=CONTENT_TYPE)

    async def render(self, request: RenderRequest, http: Request) -> Response:
        """A PNG of the prompt."""
        host = http.client.host if http.client else ""
        identity, picture = await cancel_on_disconnect(http, self.draw(request, host))
        headers = {
            "X-Request-Id": identity,
            "X-Release": picture.release or "base",
            "X-Generation": str(picture.generation),
        }
        return Response(await encode(picture.image, "PNG"), media_type="image/png", headers=headers)

    async def post_feedback(self, feedback: FeedbackRequest) -> None:
        """Record a vote on a picture rendered here; the last vote on a picture counts."""
        self.vote(feedback.request_id, feedback.liked)

    async def index(self, request: Request) -> RedirectResponse:
        """Redirect to the page, below the path prefix that a proxy has sent, else relative to this path."""
        root = request.scope.get("root_path", "")
        return RedirectResponse(f"{root}/shop/" if root else "shop/")

    async def draw(self, request: RenderRequest, host: str) -> tuple[str, RenderedPicture]:
        """Render and log a request; returns its id and the picture."""
        return await self.service.render(request, host)

    def vote(self, request_id: str, liked: bool) -> Vote:
        """Record a vote; raises PictureUnknown and VotesExhausted."""
        return self.service.feedback.vote(request_id, liked)


async def cancel_on_disconnect(http: Request, work: Coroutine[None, None, T]) -> T:
    """Await the work, and cancel it when the client disconnects."""
    task, disconnected = asyncio.ensure_future(work), asyncio.ensure_future(http.receive())
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(499, "the client disconnected")
        return task.result()
    finally:
        task.cancel()
        disconnected.cancel()


def create_app(settings: Settings, model: str = "") -> FastAPI:
    """The application that serves a model of an installation; without a name, its only model."""
    storefront = Storefront(settings, model)
    app = FastAPI(title="dyeworks storefront", lifespan=storefront.lifespan)
    app.get("/health")(storefront.health)
    app.get("/metrics", include_in_schema=False)(storefront.metrics)
    app.post("/api/render")(storefront.render)
    app.post("/api/feedback", status_code=204)(storefront.post_feedback)
    app.get("/", include_in_schema=False)(storefront.index)
    app.add_exception_handler(RenderUnavailable, _unavailable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(PictureUnknown, _rejected_vote)
    app.add_exception_handler(VotesExhausted, _rejected_vote)
    page = storefront.page
    app.add_middleware(
        RequestFilter,
        proxied=bool(settings.proxies),
        functions=len(page.fns),
        overloaded=lambda session: is_overloaded(page, session),
    )
    app.add_middleware(ExposureGuard, setting="DYEWORKS_SESSION_KEY", secret=lambda: settings.session_key)
    gr.mount_gradio_app(app, page, path="/shop", css=CSS, run_history=False, show_error=False, footer_links=[])
    return app


def _unavailable(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "5"})


def _invalid(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": problems(error.errors() if isinstance(error, RequestValidationError) else ())}, 422)


def _rejected_vote(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 429 if isinstance(error, VotesExhausted) else 404)
