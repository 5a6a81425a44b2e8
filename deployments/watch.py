"""Automations for runs whose host died, and with it the worker that would have reported it.

A run sends a heartbeat every 30 seconds (PREFECT_FLOWS_HEARTBEAT_FREQUENCY, in prefect.yaml). Triggers of prefect.yaml
start deployments and can't change states, so these automations are made here.
"""

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

SILENCE = timedelta(seconds=90)  # three heartbeats
START = timedelta(minutes=15)  # from its place on a machine to its first line: an image may have to be fetched


def automations() -> list[AutomationCore]:
    """Crashed are running and starting runs that have gone silent; Cancelled those that were about to be."""
    gone = "its process sends no heartbeats any more: the process or its host is gone"
    return [
        _silent("dyeworks: a run without heartbeats has crashed", {"heartbeat", "Running"}, SILENCE, _crash(gone)),
        _silent("dyeworks: a run that does not start has crashed", {"Pending"}, START, _crash("it never started")),
        _silent(
            "dyeworks: a run that ends nowhere is cancelled",
            {"Cancelling"},
            SILENCE,
            ChangeFlowRunState(state=StateType.CANCELLED, message=gone),
        ),
    ]


def _crash(message: str) -> ChangeFlowRunState:
    return ChangeFlowRunState(state=StateType.CRASHED, message=message)


def _silent(name: str, after: set[str], within: timedelta, action: ChangeFlowRunState) -> AutomationCore:
    """Acts on each run of a deployment of which nothing is heard for so long after one of these events.

    A run that was started by hand without a deployment may send no heartbeats, and is left alone.
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


def watch(client: SyncPrefectClient) -> list[str]:
    """Create or correct the automations; what was changed. One that a person has disabled stays so."""
    changes = list[str]()
    for wanted in automations():
        found = client.read_automations_by_name(wanted.name)
        if not found:
            client.create_automation(wanted)
            changes.append(f"automation {wanted.name!r} created")
        for there in found:
            asked = wanted.model_copy(update={"enabled": there.enabled})
            if AutomationCore.model_validate(there.model_dump()) != asked:
                client.update_automation(there.id, asked)
                changes.append(f"automation {wanted.name!r} corrected")
    return changes
