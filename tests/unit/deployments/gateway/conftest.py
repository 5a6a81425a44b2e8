"""A client of the webhook with a token."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.events_server import EventsServer
from tests.unit.deployments.gateway.senders import TOKEN, opened


@pytest.fixture
def client(events: EventsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of a webhook that knows the events' server from its start: it reads the environment once."""
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setenv("DYEWORKS_UPLOAD_QUIET_SECONDS", "0.01")
    with opened() as running:
        yield running
