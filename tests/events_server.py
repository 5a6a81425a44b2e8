"""A real HTTP server that stores posted events and creates runs, like Prefect's API."""

import json
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tasks.core.prefect_server import PrefectServer
from tests.local_server import LocalServer


class EventsServer(LocalServer):
    """Stores events, runs, other documents, paths and headers.

    Responds with `status`, or with `refuse` of the event's id or the run's dataset.
    """

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.posted: list[dict[str, Any]] = []  # documents that are not a list of events
        self.runs: dict[str, str] = {}  # the datasets of runs, by idempotency key
        self.deployed = True  # whether a deployment is registered
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

    def get(self, path: str, headers: Message) -> tuple[int, bytes]:
        """The token against CSRF, or a deployment; reading needs no token."""
        if path.partition("?")[0].endswith("/csrf-token"):
            return 200 if self.csrf_token else 422, json.dumps({"token": self.csrf_token}).encode()
        if self.authorization and headers.get("Authorization") != self.authorization:
            return 401, b""
        return self.status if self.status >= 400 else 200 if self.deployed else 404, _identified(path)

    def refusal(self, headers: Message) -> int:
        """The status with which a request is refused for its credentials; 0 if it is not."""
        if self.authorization and headers.get("Authorization") != self.authorization:
            return 401
        return 403 if self.csrf_token and headers.get("Prefect-Csrf-Token") != self.csrf_token else 0

    def run(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """Create a run, unless there is one with its idempotency key."""
        dataset, key = body["parameters"]["spec"]["dataset"], body["idempotency_key"]
        status = self.refuse.get(dataset, 200 if key in self.runs else 201)
        if status < 400:
            self.runs[key] = dataset
        return status, _identified(key)


def _identified(name: str) -> bytes:
    return json.dumps({"id": str(uuid5(NAMESPACE_URL, name))}).encode()


def _handler(keeper: EventsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            keeper.paths.append(self.path)
            keeper.headers.append(dict(self.headers.items()))
            status, answer = keeper.refusal(self.headers) or keeper.status, b""
            if status < 400 and isinstance(body, list):
                status = keeper.refuse.get(body[0]["id"], status)
            if status < 400 and isinstance(body, list):
                keeper.events += body
            elif status < 400 and self.path.endswith("/create_flow_run"):
                status, answer = keeper.run(body)
            elif status < 400:
                keeper.posted.append(body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"detail": "Missing CSRF token."}' if status == 403 else answer)

        def do_GET(self) -> None:
            status, answer = keeper.get(self.path, self.headers)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return Handler
