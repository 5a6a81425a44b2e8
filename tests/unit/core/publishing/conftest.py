"""The Hub that publishing is tested on."""

import pytest

from tasks.core.publishing.hub import Hub
from tests.hub_releases import REPO
from tests.hub_server import TOKEN, HubServer


@pytest.fixture
def hub(hub_server: HubServer) -> Hub:
    return Hub(REPO, TOKEN, endpoint=hub_server.url)
