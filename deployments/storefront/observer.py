"""ASGI middleware: each request gets an id, which its response carries, and is measured."""

import time
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.storefront.metrics import Metrics


class Observer:
    """Sets `state.request_id` and the header x-request-id, and counts requests by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, request_id, status = time.perf_counter(), uuid4().hex, 499
        scope.setdefault("state", {})["request_id"] = request_id

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, observed)
        finally:
            seconds = time.perf_counter() - start
            self.metrics.requests.labels(_route(scope), str(status)).observe(seconds)


def _route(scope: Scope) -> str:
    """The path of the route, of which there are few; what visitors invent is one."""
    if path := getattr(scope.get("route"), "path", ""):
        return str(path)
    return "/shop" if str(scope["path"]).removeprefix(scope.get("root_path", "")).startswith("/shop") else "other"
