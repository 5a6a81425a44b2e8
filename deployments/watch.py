"""Automations for runs whose host died together with the worker that would have reported the crash.

A run sends a heartbeat every 30 seconds (PREFECT_FLOWS_HEARTBEAT_FREQUENCY, in prefect.yaml). Triggers of prefect.yaml
start deployments and can't change states, so these automations are created here.
"""

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

NO_HEARTBEAT = timedelta(seconds=90)  # three heartbeats
NOT_STARTED = timedelta(minutes=15)  # from PENDING to RUNNING: an image may have to be pulled


def automations() -> list[AutomationCore]:
    """Mark silent running and pending runs as Crashed, and silent cancelling runs as Cancelled."""
    gone = "no heartbeat: the process or its host has died"
    return [
        _silent("dyeworks: a run without heartbeats has crashed", {"heartbeat", "Running"}, NO_HEARTBEAT, _crash(gone)),
        _silent(
            "dyeworks: a run that does not start has crashed", {"Pending"}, NOT_STARTED, _crash("the run did not start")
        ),
        _silent(
            "dyeworks: a run that ends nowhere is cancelled",
            {"Cancelling"},
            NO_HEARTBEAT,
            ChangeFlowRunState(state=StateType.CANCELLED, message=gone),
        ),
    ]


def _crash(message: str) -> ChangeFlowRunState:
    return ChangeFlowRunState(state=StateType.CRASHED, message=message)


def _silent(name: str, after: set[str], within: timedelta, action: ChangeFlowRunState) -> AutomationCore:
    """Acts on each run of a deployment without any event for `within` after one of the events `after`.

    Runs without a deployment may not send heartbeats, and are ignored.
    """
    trigger = EventTrigger(
        after={f"prefect.flow-run.{event}" for event in after},
        expect={"prefect.flow-run.*"},
        match=ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=ResourceSpecification.model_validate({"prefect.resource.role": "deployment"}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )
    return AutomationCore(name=name, trigger=trigger, actions=[action])


def create_automations(client: SyncPrefectClient) -> list[str]:
    """Create or update the automations; returns the changes. A disabled automation stays disabled."""
    changes = list[str]()
    for wanted in automations():
        found = client.read_automations_by_name(wanted.name)
        if not found:
            client.create_automation(wanted)
            changes.append(f"automation {wanted.name!r} created")
        for existing in found:
            expected = wanted.model_copy(update={"enabled": existing.enabled})
            if AutomationCore.model_validate(existing.model_dump()) != expected:
                client.update_automation(existing.id, expected)
                changes.append(f"automation {wanted.name!r} updated")
    return changes
