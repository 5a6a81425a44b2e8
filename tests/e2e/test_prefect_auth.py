"""A stock Prefect server that demands a password and CSRF tokens: events reach it, and a wrong password loses none."""

import time
from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from deployments.claim import OWNER
from deployments.stack import Stack
from tasks.core.errors import EventUndelivered
from tasks.core.events import Declined, make_event
from tasks.core.outbox import emit, flush
from tasks.core.prefect_server import PrefectServer
from tasks.core.registry.store_layout import store_identity
from tasks.core.store import FolderStore, open_store
from tests.e2e.deployments.server import DYEWORKS

pytestmark = pytest.mark.e2e
SECRET = "admin:pass:word"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    extra = {
        "PREFECT_SERVER_API_AUTH_STRING": SECRET,
        "PREFECT_API_AUTH_STRING": SECRET,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }
    stack = Stack(tmp_path_factory.mktemp("auth"), extra)
    try:
        stack.start_prefect()
        yield stack
    finally:
        stack.stop()


def test_event_reaches_a_server_with_a_password(stack: Stack, folder: FolderStore) -> None:
    event = make_event("dyeworks.retrain.declined", "adire", Declined(reason="too soon", decision="d1"))
    wrong = stack.environment | {"PREFECT_API_AUTH_STRING": "admin:wrong"}
    with pytest.raises(EventUndelivered, match=r"401.*check PREFECT_API_AUTH_STRING of the environment"):
        emit(folder, PrefectServer(wrong), event)
    assert flush(folder, PrefectServer(stack.environment)) == 1
    wanted = EventFilter(event=EventNameFilter(name=[event.event]))
    settings = {PREFECT_API_URL: f"{stack.url('server')}/api", PREFECT_API_AUTH_STRING: SECRET}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        deadline = time.monotonic() + 60
        while not (stored := client.read_events(wanted, limit=50).events) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert [str(one.id) for one in stored] == [event.id]


def test_server_with_a_password_is_claimed(stack: Stack) -> None:
    stack.run(DYEWORKS, "bootstrap")
    settings = {PREFECT_API_URL: f"{stack.url('server')}/api", PREFECT_API_AUTH_STRING: SECRET}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        found = client.read_variable_by_name(OWNER)
    assert found
    assert isinstance(found.value, dict)
    assert found.value["id"] == store_identity(open_store(stack.environment["DYEWORKS_STORE"])).id
