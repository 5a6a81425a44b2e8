"""A real HTTP server that stores posted events, like Prefect's `POST /api/events`."""

import json
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import Any

from tasks.core.prefect_server import PrefectServer
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
        self.authorization = ""  # the header that is demanded, if any
        self.csrf_token = ""  # the token that is demanded, if any
        super().__init__(_handler(self))
        self.url = f"{self.address}/api"

    @property
    def prefect(self) -> PrefectServer:
        """This server, as a process knows it that has its URL in the environment."""
        return PrefectServer({"PREFECT_API_URL": self.url})

    def refusal(self, headers: Message) -> int:
        """The status with which a request is refused for its credentials; 0 if it is not."""
        if self.authorization and headers.get("Authorization") != self.authorization:
            return 401
        return 403 if self.csrf_token and headers.get("Prefect-Csrf-Token") != self.csrf_token else 0


def _handler(keeper: EventsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            keeper.paths.append(self.path)
            keeper.headers.append(dict(self.headers.items()))
            status = keeper.refusal(self.headers) or keeper.status
            if status < 400 and isinstance(body, list):
                status = keeper.refuse.get(body[0]["id"], status)
            if status < 400 and isinstance(body, list):
                keeper.events += body
            elif status < 400:
                keeper.posted.append(body)
            self.send_response(status)
            self.end_headers()
            if status == 403:
                self.wfile.write(b'{"detail": "Missing CSRF token."}')

        def do_GET(self) -> None:
            self.send_response(200 if keeper.csrf_token else 422)
            self.end_headers()
            self.wfile.write(json.dumps({"token": keeper.csrf_token}).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return Handler
