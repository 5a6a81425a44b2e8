"""Requests that are generated from the OpenAPI document, valid and not: none causes a 5xx, all responses fit it."""

from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from tests.unit.deployments.storefront.running import running

CHECKS = [not_a_server_error, response_schema_conformance]
POSTS = ["POST /v1/images/generations", "POST /v1/images/feedback"]
GETS = ["GET /v1/models", "GET /v1/models/{name}", "GET /readyz", "GET /livez"]
EXAMPLES = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def test_no_request_causes_a_5xx(tmp_path: Path) -> None:
    tried = set[str]()
    with running(tmp_path) as shop:
        schema: Any = schemathesis.openapi.from_url(f"{shop.url}/openapi.json")
        for operation in (found.ok() for found in schema.get_all_operations()):
            for mode in GenerationMode if operation.body else [GenerationMode.POSITIVE]:
                _try(operation, mode)
            tried.add(operation.label)
    assert tried == {*POSTS, *GETS}


def _try(operation: Any, mode: GenerationMode) -> None:
    @EXAMPLES
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    check()
