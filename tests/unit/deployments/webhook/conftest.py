"""A client of the webhook with a token."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.unit.deployments.webhook.senders import TOKEN, opened


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    with opened() as running:
        yield running
