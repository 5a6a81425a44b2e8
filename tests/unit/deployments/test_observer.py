"""Whatever fails, a client gets the one body of errors with its x-request-id, and it is counted as what it is."""

from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient

from deployments.observer import RequestObserver, request_histogram


async def broken(_: Request) -> None:
    raise ZeroDivisionError("/a/path/of/this/machine")


def test_an_unexpected_error_is_a_problem_without_details() -> None:
    registry = CollectorRegistry()
    app = Starlette(routes=[Route("/broken", broken)])
    app.add_middleware(RequestObserver, requests=request_histogram(registry), route=lambda scope: str(scope["path"]))
    answer = TestClient(app, raise_server_exceptions=False).get("/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert len(answer.headers["x-request-id"]) == 32
    assert "machine" not in answer.text
    assert (
        'dyeworks_request_duration_seconds_count{route="/broken",status="500"} 1.0'
        in generate_latest(registry).decode()
    )
