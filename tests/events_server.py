"""A real HTTP server that keeps the events it is posted, as Prefect's `POST /api/events` does."""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.local_server import LocalServer


class EventsServer(LocalServer):
    """Keeps events, other documents, paths and headers; answers `status`, or what `refuse` has for the event's id."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.posted: list[dict[str, Any]] = []  # what was no list of events
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
            """Say nothing."""

    return Handler
