"""A real HTTP server that keeps the events it is posted, as Prefect's `POST /api/events` does."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class EventsServer:
    """Keeps the events, other documents, the paths and the headers; `status` is what it answers."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.posted: list[dict[str, Any]] = []  # what was no list of events
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.status = 204
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}/api"
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        if self.thread.is_alive():
            self.server.shutdown()
            self.thread.join()
        self.server.server_close()


def _handler(keeper: EventsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            keeper.paths.append(self.path)
            keeper.headers.append(dict(self.headers.items()))
            if keeper.status < 400 and isinstance(body, list):
                keeper.events += body
            elif keeper.status < 400:
                keeper.posted.append(body)
            self.send_response(keeper.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler
