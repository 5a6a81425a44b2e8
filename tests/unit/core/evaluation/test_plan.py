"""What a parent has planned is what a stage evaluates, or nothing is evaluated."""

import pytest

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import EvaluateRequest, PromoteRequest
from tasks.core.errors import PlanMismatch
from tasks.core.evaluation.plan import plan_evaluation
from tasks.core.lifecycle.promote import promote
from tasks.core.store import FolderStore
from tests.adire import adire, installed
from tests.candidates import evaluated, trained


@pytest.fixture
def request_(folder: FolderStore, model: ModelConfig) -> EvaluateRequest:
    """What a parent sends: resolved, with the key of its plan."""
    trained(folder, "mine")
    asked = EvaluateRequest(training="mine", evaluation=model.preset.evaluation, gate=model.preset.gate)
    return asked.model_copy(update={"key": plan_evaluation(installed(folder), model, asked).key})


def test_a_stage_makes_the_plan_of_its_parent(
    folder: FolderStore, model: ModelConfig, request_: EvaluateRequest
) -> None:
    assert plan_evaluation(installed(folder), model, request_).key == request_.key
    later = adire(preset={"evaluation": {"seeds": [9]}, "gate": {"resamples": 500}})
    assert plan_evaluation(installed(folder), later, request_).key == request_.key, "what was sent is resolved"


def test_another_scorer_on_the_machine_of_the_stage_is_named(folder: FolderStore, request_: EvaluateRequest) -> None:
    with pytest.raises(PlanMismatch) as caught:
        plan_evaluation(installed(folder), adire(scorer="ViT-B-32/openai"), request_)
    assert str(caught.value).startswith(f"evaluate-challenger was planned as {request_.key}, but this machine resolves")
    assert "champion generation 0, scorer ViT-B-32/openai, evaluation version " in str(caught.value)


def test_a_champion_that_was_crowned_since_is_named(
    folder: FolderStore, model: ModelConfig, request_: EvaluateRequest
) -> None:
    promote(installed(folder), model, PromoteRequest(evaluation=evaluated(folder, "other", 0)))
    with pytest.raises(PlanMismatch, match="champion generation 1, scorer embedded-"):
        plan_evaluation(installed(folder), model, request_)
