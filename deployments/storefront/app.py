"""The storefront: one page and one API call that render with the champion and log the prompt.

`POST /api/render` {"prompt", "seed", "steps", "session"} answers a PNG; the headers X-Request-Id,
X-Release and X-Generation tell what rendered it. `POST /api/feedback` {"request_id", "liked"} takes a vote on it.
Without Prefect in its process.
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
from deployments.storefront.page import CSS, build_page, is_overloaded
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
SCRAPES = 2  # of /metrics at once, so that a store that hangs holds no more threads


class Storefront:
    """The API of one model. Until the store can be opened, and has the model, all is answered 503.

    Raises:
        SettingError: the trusted addresses are none.
    """

    def __init__(self, settings: Settings, model: str) -> None:
        self.settings, self.model, self.sessions = settings, model, Sessions(settings.trusted_addresses)
        self.opened: StorefrontService | None = None
        self.closing = threading.Event()
        self.scrapes = threading.BoundedSemaphore(SCRAPES)

    @property
    def service(self) -> StorefrontService:
        """What renders; raises RenderUnavailable while there is none."""
        if self.opened is None:
            raise RenderUnavailable("the store cannot be opened, or has no such model; the log says why")
        return self.opened

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the service beside the server."""
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
            except Exception as error:  # the thread's boundary: whatever a store's client raises, it is tried again
                log.error("the store cannot be served from: %s", error)
                self.closing.wait(self.settings.poll_seconds)
            else:
                service.start()
                self.opened = service
                return

    async def health(self) -> dict[str, object]:
        """Whether pictures can be rendered, and with what."""
        return self.service.health()

    def metrics(self) -> Response:
        """The last drift check and the retrains, for Prometheus; 404 before the first check."""
        store = self.service.store
        if not self.scrapes.acquire(blocking=False):
            raise HTTPException(503, "the store answers slowly; ask later", {"Retry-After": "30"})
        try:
            text = store.read(metrics_key(self.service.model.name))
        except ObjectMissing as error:
            raise HTTPException(404, "no drift check has been made yet") from error
        except Exception as error:  # the request's boundary: whatever a store's client raises
            log.error("the metrics cannot be read: %s", error)
            raise HTTPException(503, "the store cannot be read; the log says why", {"Retry-After": "30"}) from error
        finally:
            self.scrapes.release()
        return Response(text, media_type=CONTENT_TYPE)

    async def render(self, request: RenderRequest, http: Request) -> Response:
        """A PNG of the prompt."""
        identity, picture = await cancel_on_disconnect(http, self.draw(request, http.client.host if http.client else ""))
        told = {
            "X-Request-Id": identity,
            "X-Release": picture.release or "base",
            "X-Generation": str(picture.generation),
        }
        return Response(await encode(picture.image, "PNG"), media_type="image/png", headers=told)

    async def post_feedback(self, said: FeedbackRequest) -> None:
        """A vote on a picture that was drawn here; of the votes on one the last counts."""
        self.vote(said.request_id, said.liked)

    async def index(self, request: Request) -> RedirectResponse:
        """The page: by the path before it that a proxy has named, else beside this one."""
        root = request.scope.get("root_path", "")
        return RedirectResponse(f"{root}/shop/" if root else "shop/")

    async def draw(self, request: RenderRequest, host: str) -> tuple[str, RenderedPicture]:
        """A picture, logged; its request's id, and the picture."""
        return await self.service.draw(request, host)

    def trigger(self) -> str:
        """The model's trigger word; empty while it is not known."""
        return self.opened.model.trigger if self.opened else ""

    def vote(self, request_id: str, liked: bool) -> Vote:
        """Take a vote; raises PictureUnknown and VotesExhausted."""
        return self.service.feedback.vote(request_id, liked)


async def cancel_on_disconnect(http: Request, work: Coroutine[None, None, T]) -> T:
    """The outcome of the work, which is cancelled when the client hangs up."""
    task, disconnected = asyncio.ensure_future(work), asyncio.ensure_future(http.receive())
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(499, "the client hung up")
        return task.result()
    finally:
        task.cancel()
        disconnected.cancel()


def create_app(settings: Settings, model: str = "") -> FastAPI:
    """The application that serves a model of an installation, its only one where none is named."""
    storefront = Storefront(settings, model)
    app = FastAPI(title="dyeworks storefront", lifespan=storefront.lifespan)
    app.get("/health")(storefront.health)
    app.get("/metrics", include_in_schema=False)(storefront.metrics)
    app.post("/api/render")(storefront.render)
    app.post("/api/feedback", status_code=204)(storefront.post_feedback)
    app.get("/", include_in_schema=False)(storefront.index)
    app.add_exception_handler(RenderUnavailable, _unavailable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(PictureUnknown, _refused_vote)
    app.add_exception_handler(VotesExhausted, _refused_vote)
    page = build_page(
        storefront.trigger,
        settings.render_batch,
        storefront.draw,
        lambda picture: encode(picture.image, "WEBP"),
        storefront.vote,
    )
    app.add_middleware(
        RequestFilter,
        proxied=bool(settings.proxies),
        inputs=[len(function.inputs) for function in page.fns.values()],
        overloaded=lambda session: is_overloaded(page, session),
    )
    app.add_middleware(ExposureGuard, setting="DYEWORKS_SESSION_KEY", secret=lambda: settings.session_key)
    gr.mount_gradio_app(app, page, path="/shop", css=CSS, run_history=False, show_error=False, footer_links=[])
    return app


def _unavailable(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "5"})


def _invalid(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": problems(error.errors() if isinstance(error, RequestValidationError) else ())}, 422)


def _refused_vote(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 429 if isinstance(error, VotesExhausted) else 404)
