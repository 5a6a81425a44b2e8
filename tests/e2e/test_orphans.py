"""Runs whose processes were killed with the services, on a real Prefect server."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling, Completed, Pending, Running
from prefect.testing.utilities import prefect_test_harness

from deployments.stack import Stack

pytestmark = pytest.mark.e2e


@flow
def idle() -> None:
    """Do nothing: only its runs' states are of interest."""


@pytest.fixture(scope="module")
def client() -> Iterator[SyncPrefectClient]:
    with prefect_test_harness(server_startup_timeout=400), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def stack(client: SyncPrefectClient, tmp_path: Path) -> Stack:
    """A stack with the server of the test."""
    stack = Stack(tmp_path)
    stack.ports["server"] = httpx.URL(str(PREFECT_API_URL.value())).port or 0
    return stack


def moved(client: SyncPrefectClient, run: UUID, *states: State[None]) -> StateType | None:
    """The state of a run after the server was asked for these, as an engine asks."""
    for state in states:
        client.set_flow_run_state(run, state)
    return client.read_flow_run(run).state_type


@pytest.mark.parametrize(
    ("left", "end"),
    [
        ((Pending(),), StateType.CRASHED),
        ((Pending(), Running()), StateType.CRASHED),
        ((Pending(), Running(), Cancelling()), StateType.CANCELLED),  # not Crashed, which automations restart
    ],
)
def test_a_run_without_a_process_is_ended_and_its_slot_is_free(
    client: SyncPrefectClient, stack: Stack, left: tuple[State[None], ...], end: StateType
) -> None:
    deployment = client.create_deployment(client.create_flow(idle), f"left-{len(left)}", concurrency_limit=1)
    orphan, waits = (client.create_flow_run_from_deployment(deployment).id for _ in range(2))
    assert moved(client, orphan, *left) is left[-1].type
    assert moved(client, waits, Pending()) is StateType.SCHEDULED
    stack.end_orphans()
    ended = client.read_flow_run(orphan)
    assert (ended.state_type, ended.state_name) == (end, end.value.capitalize()), "automations go by the name"
    assert moved(client, waits, Pending()) is StateType.PENDING


def test_a_run_that_has_ended_or_is_scheduled_stays_as_it_is(client: SyncPrefectClient, stack: Stack) -> None:
    deployment = client.create_deployment(client.create_flow(idle), "others")
    done, scheduled = (client.create_flow_run_from_deployment(deployment).id for _ in range(2))
    assert moved(client, done, Pending(), Running(), Completed()) is StateType.COMPLETED
    stack.end_orphans()
    assert client.read_flow_run(done).state_type is StateType.COMPLETED
    assert client.read_flow_run(scheduled).state_type is StateType.SCHEDULED
