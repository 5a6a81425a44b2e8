"""The storefront: OpenAI's images API and a page, for all models of a base. The process does not import Prefect.

`/livez` and `/readyz` are for supervisors, `/metrics` for Prometheus.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from deployments.exposure import ExposureGuard
from deployments.observer import RequestObserver
from deployments.problems import add_handlers
from deployments.storefront.door import Door, SessionCookie
from deployments.storefront.errors import RenderUnavailable
from deployments.storefront.images_api import ImagesApi
from deployments.storefront.metrics import Metrics
from deployments.storefront.page import HEAD, THEME, Shop, build_page, is_overloaded
from deployments.storefront.request_filter import RequestFilter
from tasks.core.config.installation import Settings
from tasks.core.installation import of_one_base, open_installation, unopened_installation
from tasks.core.reporting.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from deployments.storefront.service import StorefrontService

log = logging.getLogger("dyeworks.storefront")


class Storefront:
    """The state of the application. Until a model can be served, every request gets a 503.

    Raises:
        SettingError: the trusted addresses or a limit cannot be parsed.
    """

    def __init__(self, settings: Settings, models: Sequence[str]) -> None:
        self.settings, self.wanted = settings, models
        self.door, self.metrics = Door(settings), Metrics()
        self.opened: StorefrontService | None = None
        self.closing = threading.Event()
        self.shop = Shop(self.service, self.door)
        self.page = build_page(self.shop, settings.render_batch)

    def service(self) -> "StorefrontService":
        """The rendering service; raises RenderUnavailable until the store, or a copy of it, is open."""
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

    async def livez(self) -> dict[str, str]:
        """Whether the process answers; a dead engine ends it, and a page whose queue has stopped wants a restart."""
        if self.page._queue.stopped:
            raise RenderUnavailable("the queue of the page has stopped")
        return {"status": "ok"}

    async def readyz(self) -> dict[str, object]:
        """Whether pictures can be rendered, with which generations, and what is wrong."""
        return self.service().status()

    async def expose(self, http: Request) -> Response:
        """The metrics of this process, and of the last drift check and the retrains of each model."""
        self.door.admit(http, None, "metrics")
        drift = [model.drift_metrics for model in self.opened.models.values()] if self.opened else []
        return Response(await asyncio.to_thread(self.metrics.text, *drift), media_type=CONTENT_TYPE)

    async def index(self, request: Request) -> RedirectResponse:
        """Redirect to the page, below the path prefix that a proxy has sent, else relative to this path."""
        root = request.scope.get("root_path", "")
        return RedirectResponse(f"{root}/shop/" if root else "shop/")

    def _open(self) -> None:
        while not self.closing.is_set():
            try:
                service = self._service()
                service.start()
            except Exception as error:  # thread boundary: retried on any error of a store's client
                log.error("the store cannot be opened: %s", error)
                self.closing.wait(self.settings.poll_seconds)
            else:
                self.opened = service
                return

    def _service(self) -> "StorefrontService":
        """The service, of what was served last on this machine if the store is away."""
        # They import torch, which takes seconds: the page is shown before.
        from deployments.storefront.mirror import Mirror  # noqa: PLC0415
        from deployments.storefront.service import StorefrontService  # noqa: PLC0415

        installation = unopened_installation(self.settings)
        mirror = Mirror(installation)
        kept = mirror.configs()
        try:
            if not kept:  # the first contact: the folder of a store is created, which must not hide a lost one later
                installation = open_installation(self.settings)
            configs = installation.models() or kept
        except Exception as error:  # any error of a store's client
            if not kept:
                raise
            configs = kept
            log.error("the store cannot be opened, what was served last is served: %s", error)
        return StorefrontService(installation, of_one_base(configs, self.wanted), self.door, self.metrics, mirror)


def create_app(settings: Settings, models: Sequence[str] = ()) -> FastAPI:
    """The application that serves these models of an installation, by default all; they must have one base."""
    storefront = Storefront(settings, models)
    app = FastAPI(title="dyeworks storefront", lifespan=storefront.lifespan)
    app.state.storefront = storefront
    api = ImagesApi(storefront.service, storefront.door)
    app.include_router(api.router())
    app.get("/livez")(storefront.livez)
    app.get("/readyz")(storefront.readyz)
    app.get("/metrics", include_in_schema=False)(storefront.expose)
    app.get("/", include_in_schema=False)(storefront.index)
    app.get("/shop/offers", include_in_schema=False)(storefront.shop.offers)
    add_handlers(app)
    page = storefront.page
    app.add_middleware(SessionCookie, cookies=storefront.door.cookies)
    app.add_middleware(
        RequestFilter,
        proxied=bool(settings.proxies),
        overloaded=lambda session: is_overloaded(page, session),
    )
    app.add_middleware(ExposureGuard, setting="DYEWORKS_SESSION_KEY", secret=lambda: settings.session_key)
    paths = frozenset(route.path for route in app.routes if isinstance(route, Route))
    app.add_middleware(RequestObserver, requests=storefront.metrics.requests, route=partial(_route, paths))
    gr.mount_gradio_app(
        app,
        page,
        path="/shop",
        head=HEAD,
        theme=THEME,
        run_history=False,
        show_error=False,
        footer_links=[],
        auth_dependency=storefront.door.page_user,
    )
    return app


def _route(paths: frozenset[str], scope: Scope) -> str:
    """The path if it is one of the application's; what visitors invent is one more."""
    path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
    return path if path in paths else "/shop" if path.startswith("/shop/") else "other"
