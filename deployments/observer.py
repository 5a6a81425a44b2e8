"""ASGI middleware: each request gets an id, which its response carries, and is measured."""

import logging
import time
from collections.abc import Callable
from uuid import uuid4

from prometheus_client import CollectorRegistry, Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.problems import problem

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
UNANSWERED = 499  # the client was gone before the response began

log = logging.getLogger("dyeworks.http")


def request_histogram(registry: CollectorRegistry) -> Histogram:
    """The durations of requests, by route and status."""
    return Histogram(
        "dyeworks_request_duration_seconds",
        "Requests from their arrival to their response.",
        ("route", "status"),
        buckets=SECONDS,
        registry=registry,
    )


class RequestObserver:
    """Sets `state.request_id` and the header x-request-id, and counts requests by route and status."""

    def __init__(self, app: ASGIApp, requests: Histogram, route: Callable[[Scope], str]) -> None:
        self.app, self.requests, self.route = app, requests, route

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
            self.requests.labels(self.route(scope), str(status)).observe(seconds)
