"""ASGI middleware: each request gets an id, which its response carries, and is measured."""

import logging
import time
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.storefront.metrics import Metrics
from deployments.storefront.problems import problem

log = logging.getLogger("dyeworks.storefront")
UNANSWERED = 499  # the client was gone before the response began


class RequestObserver:
    """Sets `state.request_id` and the header x-request-id, and counts requests by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, request_id, status = time.perf_counter(), uuid4().hex, UNANSWERED
        scope.setdefault("state", {})["request_id"] = request_id

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except Exception:  # request boundary: whatever it is, the client gets the body of every other error
            log.exception("request %s failed", request_id)
            if status != UNANSWERED:
                raise
            await problem(500, "the request failed; the log has it by its x-request-id")(scope, receive, observed)
        finally:
            seconds = time.perf_counter() - start
            self.metrics.requests.labels(self._route(scope), str(status)).observe(seconds)

    def _route(self, scope: Scope) -> str:
        """The path if it is one of the application's; what visitors invent is one more."""
        path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
        return path if path in self.paths else "/shop" if path.startswith("/shop/") else "other"
