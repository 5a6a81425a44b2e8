"""Requests of the demo to a Prefect server that is sometimes locked."""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from deployments.demo.prefect_api import PrefectApi
from tests.local_server import LocalServer

ID = "3f2a0000-0000-4000-8000-000000000000"
FOUND = json.dumps({"id": ID, "flow_id": ID, "name": "monitor-drift"}).encode()  # a deployment, or a run


def test_retried_request_for_a_run_has_the_same_idempotency_key() -> None:
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(404 if "csrf" in self.path else 200, FOUND)

        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(503 if len(asked) == 1 else 201, FOUND)

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = LocalServer(Handler)
    server.start()
    try:
        api = PrefectApi(server.address)
        api.start("monitor-drift")
        api.start("monitor-drift")
    finally:
        server.stop()
    first, again, other = [body["idempotency_key"] for body in asked]
    assert first == again != other
