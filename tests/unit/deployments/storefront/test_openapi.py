"""Requests that are generated from the OpenAPI document, valid and not: none causes a 5xx, all responses fit it."""

from pathlib import Path
from typing import Any

import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from pydantic import SecretStr
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from deployments.storefront.app import create_app
from tasks.core.config.installation import Settings
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.unit.deployments.storefront.releases import wait_until

CHECKS = [not_a_server_error, response_schema_conformance]
POSTS = ["POST /v1/images/generations", "POST /v1/images/feedback"]
EXAMPLES = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def test_no_request_causes_a_5xx(tmp_path: Path) -> None:
    apply_config(FolderStore(tmp_path / "store"), adire(serving={"steps": 1, "most_steps": 2}))
    local = Settings(
        store=str(tmp_path / "store"),
        cache=tmp_path / "cache",
        device="cpu",
        limit_address="",
        limit_session="",
        session_key=SecretStr("k" * 32),
    )
    app, tried = create_app(local), set[str]()
    with TestClient(app) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        schema: Any = schemathesis.openapi.from_asgi("/openapi.json", app)
        for operation in (found.ok() for found in schema.get_all_operations()):
            for mode in GenerationMode if operation.body else [GenerationMode.POSITIVE]:
                _try(operation, mode)
            tried.add(operation.label)
    assert tried == {*POSTS, "GET /v1/models", "GET /readyz", "GET /livez"}


def _try(operation: Any, mode: GenerationMode) -> None:
    @EXAMPLES
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    check()
