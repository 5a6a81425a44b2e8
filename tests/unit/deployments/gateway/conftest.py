"""A client of the gateway with a token, and an SNS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.sns_server import SnsServer
from tests.unit.deployments.gateway.senders import TOKEN, TOPIC, opened, subscribe


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of a running gateway, with a model that subscribes to the datasets of the tests."""
    monkeypatch.setenv("DYEWORKS_WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setenv("DYEWORKS_SNS_TOPICS", f"{TOPIC}, arn:aws:sns:eu-west-1:111122223333:other")
    subscribe()
    with opened() as running:
        yield running


@pytest.fixture
def sns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SnsServer]:
    """A running SNS, by which the process reaches every https address."""
    server = SnsServer(tmp_path)
    server.start()
    monkeypatch.setenv("HTTPS_PROXY", server.address)
    monkeypatch.setenv("SSL_CERT_FILE", str(server.pem))
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.stop()
