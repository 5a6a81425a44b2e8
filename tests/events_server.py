"""A real HTTP server that stores posted events, like Prefect's `POST /api/events`."""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.local_server import LocalServer


class EventsServer(LocalServer):
    """Stores events, other documents, paths and headers; responds with `status`, or with `refuse` of the event's id."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.posted: list[dict[str, Any]] = []  # documents that are not a list of events
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.status = 204
        self.refuse: dict[str, int] = {}
        super().__init__(_handler(self))
        self.url = f"{self.address}/api"


def _handler(keeper: EventsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            keeper.paths.append(self.path)
            keeper.headers.append(dict(self.headers.items()))
            status = keeper.status
            if isinstance(body, list):
                status = keeper.refuse.get(body[0]["id"], status)
            if status < 400 and isinstance(body, list):
                keeper.events += body
            elif status < 400:
                keeper.posted.append(body)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return Handler
