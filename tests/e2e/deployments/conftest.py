"""One server for all tests of the deployments, in file order: the last ones have a champion."""

from collections.abc import Iterator

import pytest

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.config.presets import IngestSpec
from tasks.core.data.ingest import ingest
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.e2e.deployments.server import Server

MODEL = adire(datasets=["adire", "cloth"], notify_block="custom-webhook/team")


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("deployments")
    started: list[Server] = []
    try:
        started.append(Server(home, [MODEL]))
        yield started[0]
    finally:
        for one in started:
            one.stack.stop()


@pytest.fixture(scope="package")
def dataset(server: Server) -> str:
    """A dataset to train on."""
    draw_uploads(server.store / "uploads/cloth", 4, FIRST_TASTE, seed=1)
    ingest(FolderStore(server.store), "cloth", IngestSpec())
    return "cloth"
