"""Requests that are generated from the OpenAPI document, valid and not: none causes a 5xx, all responses fit it."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from requests import PreparedRequest
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from standardwebhooks import Webhook

from tasks.core.store import FolderStore
from tests.gateway_process import gateway
from tests.unit.deployments.gateway.running import prepare
from tests.unit.deployments.gateway.senders import TOKEN, TOPIC

CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]
SECRET = f"whsec_{'A' * 40}"
OPERATIONS = ["POST /hooks/s3", "POST /hooks/standard", "GET /readyz", "GET /livez"]
OPERATIONS += ["GET /uploads", "GET /uploads/{dataset}", "POST /uploads/{dataset}/archive"]
OPERATIONS += ["PUT /uploads/{dataset}/{name}"]
OPEN = {"Authorization": ""}
EXAMPLES = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def test_no_request_causes_a_5xx(tmp_path: Path) -> None:
    folders = {name: str(tmp_path / name) for name in ("store", "cache")}
    key, tried = prepare(FolderStore(tmp_path / "store"))["ingest"], set[str]()
    with gateway(webhook_token=TOKEN, webhook_secrets=SECRET, sns_topics=TOPIC, **folders) as running:
        schema: Any = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
        for operation in (found.ok() for found in schema.get_all_operations()):
            auth = _sign if operation.path == "/hooks/standard" else _Bearer(key)
            for mode in GenerationMode if operation.body else [GenerationMode.POSITIVE]:
                _try(operation, mode, auth)
            tried.add(operation.label)
        assert 'outcome="ignored",sender="seaweedfs"' in running.client.get("/metrics", headers=OPEN).text
    assert tried == {*OPERATIONS}


def test_document_says_how_to_authenticate_and_what_refusals_look_like(tmp_path: Path) -> None:
    folders = {name: str(tmp_path / name) for name in ("store", "cache")}
    with gateway(webhook_token=TOKEN, **folders) as running:
        document = httpx.get(f"{running.url}/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    for path, needed in (("/hooks/s3", {"token", "password"}), ("/hooks/standard", {"signature"})):
        operation = document["paths"][path]["post"]
        assert {name for entry in operation["security"] for name in entry} == needed <= set(schemes)
        assert {"200", "202", "401", "403", "408", "413", "422", "503"} == set(operation["responses"])
        assert operation["description"]


def _try(operation: Any, mode: GenerationMode, auth: Callable[[PreparedRequest], PreparedRequest]) -> None:
    @EXAMPLES
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        if case.path_parameters and len(str(case.path_parameters)) % 2:  # else nothing is beyond the first check
            case.path_parameters["dataset"] = "adire"
            case.path_parameters["name"] = f"{case.path_parameters.get('name', '')}.png"
        case.call_and_validate(checks=CHECKS, auth=auth)

    check()


class _Bearer:
    """Shows a token or a key."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.text}"
        return request


def _sign(request: PreparedRequest) -> PreparedRequest:
    """Sign a body as its sender would, if it is one that can be signed."""
    body, now = request.body, datetime.now(UTC)
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    signature = Webhook(SECRET).sign("msg", now, text)
    headers = {"id": "msg", "timestamp": str(int(now.timestamp())), "signature": signature}
    request.headers.update({f"webhook-{name}": value for name, value in headers.items()})
    return request
