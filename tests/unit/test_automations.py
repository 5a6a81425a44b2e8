"""The automations of prefect.yaml on crashed runs, filtered and rendered by Prefect's own code."""

import copy
from types import SimpleNamespace
from typing import Any, Literal
from uuid import UUID

import pytest
import yaml
from prefect.server.events.actions import RunDeployment
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent, RelatedResource, Resource
from prefect.utilities.schema_tools.hydration import HydrationContext, hydrate
from prefect.utilities.schema_tools.validation import validate
from pydantic import ValidationError

from deployments.watch import automations
from flows.roll_back import roll_back
from tasks.core.config.installation import ROOT
from tasks.core.config.requests import RetrainRequest, RollBackRequest, TrainRequest
from tasks.core.events import Unhealthy, make_event
from tasks.promote import append_roll_back, resolve_roll_back

RUN = UUID(int=7)
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def automation(name: str) -> dict[str, Any]:
    triggers = [trigger for deployment in DEPLOYMENTS for trigger in deployment.get("triggers", [])]
    (found,) = [dict(trigger) for trigger in triggers if trigger["name"] == name]
    return found


def rendered(name: str, context: dict[str, Any]) -> dict[str, Any]:
    """The `spec` of the run that an automation starts."""
    templates = copy.deepcopy(automation(name)["parameters"])
    RunDeployment._upgrade_v1_templates(templates)
    how = HydrationContext(raise_on_error=True, render_jinja=True, jinja_context=context)
    return dict(hydrate(templates, how)["spec"])


def restarted(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The `spec` of the run that an automation starts after a run with these parameters has crashed."""
    return rendered(name, {"flow_run": SimpleNamespace(id=RUN, parameters=parameters)})


def test_crashed_training_is_restarted_with_its_parameters() -> None:
    asked = TrainRequest.model_validate(
        {"dataset": "cloth", "demand": ["{{ red }} dots", "<'>"], "train": {"steps": 7, "prior": {"weight": 0.5}}}
        | {"model": "adire", "version": "v1", "base": "cloth/base@0f2b3c", "key": "3f2ac0ffee", "dry_run": True}
    )
    assert asked.model_fields_set == TrainRequest.model_fields.keys() - {"attempt"}
    made = restarted("a crashed training is started again", {"spec": asked.model_dump(mode="json")})
    assert TrainRequest.model_validate(made) == asked.model_copy(update={"attempt": 2})


@pytest.mark.parametrize("parameters", [{}, {"spec": {}}])
def test_crashed_training_with_defaults_is_restarted(parameters: dict[str, Any]) -> None:
    made = restarted("a crashed training is started again", parameters)
    assert TrainRequest.model_validate(made) == TrainRequest(attempt=2)


@pytest.mark.parametrize("parameters", [{"spec": {"attempt": 8}}, {"speck": {}}, {"spec": {}, "steps": 5}])
def test_restarts_of_a_training_are_limited_and_need_valid_parameters(parameters: dict[str, Any]) -> None:
    made = restarted("a crashed training is started again", parameters)
    with pytest.raises(ValidationError, match="attempt"):
        TrainRequest.model_validate(made)


def test_crashed_retrain_is_restarted_with_the_next_attempt() -> None:
    name, asked = "a crashed retrain is started again", {"cause": "drift", "decision": "d1", "report": "r1"}
    asked |= {"model": "adire", "dataset": "cloth", "run": "by ada"}
    assert asked.keys() == RetrainRequest.model_fields.keys() - {"attempt"}
    second = restarted(name, {"spec": asked})
    assert RetrainRequest.model_validate(second) == RetrainRequest.model_validate(asked | {"attempt": 2})
    assert restarted(name, {"spec": second})["attempt"] == 3


def test_crashed_retrain_of_a_person_is_restarted_as_the_same_retrain() -> None:
    name = "a crashed retrain is started again"
    first = restarted(name, {"spec": {"cause": "manual"}})
    assert first["run"] == str(RUN)
    assert restarted(name, {"spec": first | {"run": "an earlier one"}})["run"] == "an earlier one"


@pytest.mark.parametrize(
    "asked",
    [
        {"leaves": 7, "actor": "storefront guard", "reason": """it's "{{ not }}" a LoRA: {'a': 1}, 100 % <b>"""},
        {"model": "adire", "generation": 3, "actor": "ada", "reason": "too blue"},
        {"actor": "ada"},
        {},
    ],
)
def test_crashed_roll_back_is_restarted_with_the_next_attempt(asked: dict[str, Any]) -> None:
    name = "a crashed roll-back is started again"
    second = restarted(name, {"spec": asked})
    assert RollBackRequest.model_validate(second, strict=True) == RollBackRequest.model_validate(asked | {"attempt": 2})
    assert validate({"spec": second}, roll_back.parameters.model_dump(mode="json")) == []
    assert restarted(name, {"spec": second}) == second | {"attempt": 3}
    assert restarted(name, {}) == restarted(name, {"spec": {}})


def test_retried_roll_back_is_idempotent() -> None:
    for step in (resolve_roll_back, append_roll_back):
        assert (step.retries, step.retry_delay_seconds) == (2, [2, 5])


@pytest.mark.parametrize("parameters", [{"spec": {"attempt": 8}}, {"speck": {}}])
def test_restarts_of_a_roll_back_are_limited(parameters: dict[str, Any]) -> None:
    made = restarted("a crashed roll-back is started again", parameters)
    with pytest.raises(ValidationError, match="attempt"):
        RollBackRequest.model_validate(made)


@pytest.mark.parametrize(
    ("run", "covered"),
    [("crafty-reindeer", True), ("retrain adire: train-lora 4fa1", False), ("train-lora adire 4fa1", True)],
)
def test_training_stage_of_a_retrain_is_not_restarted_by_the_trigger(run: str, covered: bool) -> None:
    given = automation("a crashed training is started again")
    trigger = EventTrigger(
        posture="Reactive", expect=given["expect"], match=given["match"], match_related=given["match_related"]
    )
    resource = Resource({"prefect.resource.id": "prefect.flow-run.1", "prefect.resource.name": run})
    role = {"prefect.resource.role": "deployment", "prefect.resource.name": "train-lora"}
    related = RelatedResource({"prefect.resource.id": "prefect.deployment.1"} | role)
    assert trigger.covers_resources(resource, [related]) == covered


@pytest.mark.parametrize("kind", ["health", "feedback"])
def test_unhealthy_champion_is_rolled_back_for_any_reason_text(kind: Literal["health", "feedback"]) -> None:
    reason = """it's "{{ not }}" a LoRA: {'a': 1}, 100 % {% raw %} <b>\\n & anneaux, 藍"""
    payload = Unhealthy(generation=7, release="ab", kind=kind, reason=reason)
    event = make_event("dyeworks.champion.unhealthy", "adire", payload)
    received = ReceivedEvent.model_validate(event.model_dump(mode="json", exclude={"schema_version"}))
    spec = rendered("an unhealthy champion is taken back", {"event": received})
    assert spec == {"model": "adire", "leaves": 7, "actor": "storefront guard", "reason": reason}
    assert validate({"spec": spec}, roll_back.parameters.model_dump(mode="json")) == []
    assert RollBackRequest.model_validate(spec, strict=True).generation == 0, "the one before the champion"
    (expected,) = automation("an unhealthy champion is taken back")["expect"]
    assert expected == event.event


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: str(deployment["name"]))
def test_every_deployment_sends_heartbeats(deployment: dict[str, Any]) -> None:
    every = deployment["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
    assert 30 <= int(every) <= 60


@pytest.mark.parametrize(
    ("name", "begins", "seconds", "state"),
    [
        ("dyeworks: a run without heartbeats has crashed", ["Running", "heartbeat"], 90, "CRASHED"),
        ("dyeworks: a run that does not start has crashed", ["Pending"], 900, "CRASHED"),
        ("dyeworks: a run that ends nowhere is cancelled", ["Cancelling"], 90, "CANCELLED"),
    ],
)
def test_silent_runs_get_a_final_state(name: str, begins: list[str], seconds: int, state: str) -> None:
    (found,) = [automation for automation in automations() if automation.name == name]
    trigger = EventTrigger.model_validate(found.trigger.model_dump(mode="json"))
    for event in ("Pending", "Running", "heartbeat", "Cancelling", "Completed", "Crashed", "Scheduled", "Suspended"):
        assert trigger.starts_after(f"prefect.flow-run.{event}") == (event in begins)
        assert trigger.expects(f"prefect.flow-run.{event}"), "which ends the wait"
    assert trigger.within.total_seconds() == seconds
    run = Resource({"prefect.resource.id": "prefect.flow-run.1", "prefect.resource.name": "crafty-reindeer"})
    flow = RelatedResource({"prefect.resource.id": "prefect.flow.1", "prefect.resource.role": "flow"})
    made = RelatedResource({"prefect.resource.id": "prefect.deployment.1", "prefect.resource.role": "deployment"})
    assert trigger.covers_resources(run, [flow, made])
    assert not trigger.covers_resources(run, [flow]), "a run without a deployment may not send heartbeats"
    (action,) = found.actions
    assert (action.type, action.model_dump(mode="json")["state"]) == ("change-flow-run-state", state)
