"""The gateway: notifications of uploads and uploads themselves, each in a durable outbox before it is answered.

The process imports neither torch nor Prefect. `/livez` and `/readyz` are for supervisors, `/metrics` for Prometheus.
"""

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from deployments.exposure import ExposureGuard
from deployments.gateway.access import GatewayAccess
from deployments.gateway.batches import OutboxState
from deployments.gateway.dispatcher import Dispatcher
from deployments.gateway.hooks import Hooks
from deployments.gateway.metrics import GatewayMetrics
from deployments.gateway.outbox import OutboxUnavailable, UploadOutbox
from deployments.gateway.schemas import complete, refusals
from deployments.gateway.subscriptions import Subscriptions
from deployments.gateway.uploads import UploadRoutes
from deployments.observer import UNANSWERED, RequestObserver
from deployments.problems import ApiError, add_handlers, problem
from tasks.core.access.keys import KeyRing
from tasks.core.config.installation import Settings, read_prefect_environment
from tasks.core.errors import DyeworksError
from tasks.core.installation import Installation, open_installation
from tasks.core.prefect_server import PrefectServer

REASONS = {400: "invalid", 404: "not_found", 405: "method", 408: "too_slow", 413: "too_large", 499: "disconnected"}

Handler = Callable[[Request, Exception], Response | Awaitable[Response]]

log = logging.getLogger("dyeworks.gateway")


class Readiness(BaseModel):
    """What the gateway says about itself: objects and batches without a run, and rejected batches."""

    status: Literal["ok", "degraded"]
    problems: list[str]
    objects: int
    batches: int
    dead: int


class Gateway:
    """The state of the application.

    Raises:
        SettingError: a setting cannot be parsed.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.metrics, self.keys = settings, GatewayMetrics(), KeyRing()
        self.access = GatewayAccess(settings, self.keys)
        self.outbox = UploadOutbox(settings.outbox_url)
        server = PrefectServer(read_prefect_environment(), Path.cwd())
        waits = settings.upload_quiet_seconds, settings.upload_longest_seconds
        self.dispatcher = Dispatcher(self.outbox.batches, server, *waits)
        self.outbox.wake = self.dispatcher.wake
        self.subscriptions = Subscriptions()
        common = self.access, self.subscriptions, self.outbox, self.metrics
        self.hooks = Hooks(settings, *common)
        self.uploads = UploadRoutes(settings, lambda: self.installation, *common)
        self.store_problem = "it was not read yet"  # empty: none
        self.closing, self.looking = threading.Event(), asyncio.Lock()

    @cached_property
    def installation(self) -> Installation:
        """The store and the Prefect server; raises StoreUnusable, and is tried again on the next access."""
        return open_installation(self.settings)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the threads of the gateway for the lifetime of the server."""
        threading.Thread(target=self._follow_store, name="store", daemon=True).start()
        self.dispatcher.start()
        gc.collect()
        gc.freeze()  # else each full collection looks at all modules again, which stops requests for 0.1 s
        yield
        self.closing.set()
        await asyncio.to_thread(self.dispatcher.stop)
        await asyncio.to_thread(self.outbox.close)

    async def livez(self) -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    async def readyz(self) -> Readiness:
        """Whether uploads are taken, what waits to be ingested, and what is wrong."""
        if (state := await self._state()) is None:
            raise OutboxUnavailable("cannot be read")
        problems = {
            "the API keys or the models cannot be read from the store": self.store_problem,
            "nothing could be stored in the outbox at the last try": self.outbox.problem,
            "no ingest can be started": self.dispatcher.problem,
            "uploads cannot be received on the gateway's disk": self.uploads.problem,
            f"{state.dead} batches are rejected, see `dyeworks outbox list --dead`": state.dead,
        }
        found = [words for words, reason in problems.items() if reason]
        return Readiness(
            status="degraded" if found else "ok",
            problems=found,
            objects=state.objects,
            batches=state.batches,
            dead=state.dead,
        )

    async def expose(self, request: Request) -> Response:
        """The metrics of this process and of the outbox."""
        self.access.reader(request)
        text = self.metrics.text(self.dispatcher.runs_started, await self._state())
        return Response(text, media_type=CONTENT_TYPE)

    async def _state(self) -> OutboxState | None:
        """What waits in the outbox; None while it cannot be read. One request at a time looks."""
        async with self.looking:
            try:
                return await asyncio.to_thread(self.outbox.batches.state)
            except (DyeworksError, SQLAlchemyError, OSError):  # the dispatcher logs it
                return None

    def _follow_store(self) -> None:
        """Read the keys and datasets again and again; a thread of its own, since a store may hang."""
        while not self.closing.is_set():
            try:
                self.subscriptions.update(self.installation.models())  # before the keys, without which nobody uploads
                self.keys.refresh(self.installation.store)
                found = ""
            except Exception as error:  # thread boundary: any error of a store's client
                self.subscriptions.update(None)
                found = str(error)
            if found and found != self.store_problem:
                log.error("the API keys and the datasets of models cannot be read: %s", found)
            self.store_problem = found
            self.closing.wait(self.settings.poll_seconds)


def create_app(settings: Settings) -> FastAPI:
    """The application of an installation."""
    gateway = Gateway(settings)
    app = FastAPI(
        title="dyeworks gateway", docs_url=None, redoc_url=None, lifespan=gateway.lifespan, redirect_slashes=False
    )
    app.state.gateway = gateway
    app.include_router(gateway.hooks.router())
    app.include_router(gateway.uploads.router())
    app.get("/livez")(gateway.livez)
    app.get("/readyz", responses=refusals(503))(gateway.readyz)
    app.get("/metrics", include_in_schema=False)(gateway.expose)
    complete(app)
    add_handlers(app)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    _count_refusals(app, gateway.metrics)
    app.add_middleware(ExposureGuard, setting="DYEWORKS_WEBHOOK_TOKEN", secret=lambda: settings.weakest_webhook_token)
    app.add_middleware(RequestObserver, requests=gateway.metrics.requests, route=_route)
    return app


def _count_refusals(app: FastAPI, metrics: GatewayMetrics) -> None:
    """Count every error that the application answers, by its code, else by its status."""
    for error, handler in app.exception_handlers.items():
        app.exception_handlers[error] = _counted(handler, metrics)


def _counted(handler: Handler, metrics: GatewayMetrics) -> Handler:
    async def counted(request: Request, error: Exception) -> Response:
        metrics.refused.labels(_reason(error)).inc()
        answer = handler(request, error)
        return answer if isinstance(answer, Response) else await answer

    return counted


def _reason(error: Exception) -> str:
    match error:
        case ApiError():
            return error.code or REASONS.get(error.status, "other")
        case HTTPException() | StarletteHTTPException():
            return REASONS.get(error.status_code, "other")
        case RequestValidationError():
            return "invalid"
        case ClientDisconnect():
            return "disconnected"
        case _:
            return "unavailable"  # KeysUnread


def _disconnected(_: Request, error: Exception) -> Response:
    return problem(UNANSWERED, "the client has closed the connection")


def _route(scope: Scope) -> str:
    """The path of the matched route; what clients invent is one more."""
    return getattr(scope.get("route"), "path", "other")
