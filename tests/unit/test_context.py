"""The model of a request: the one that it names, or the only one."""

import pytest
from prefect.logging import disable_run_logger

from tasks.context import open_model
from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import EvaluateRequest, MonitorRequest, PromoteRequest, SteerRequest, TrainRequest
from tasks.core.errors import ModelUnknown
from tasks.core.registry.models import apply_config
from tasks.core.retraining.decisions import read_decisions
from tasks.core.store import FolderStore
from tasks.evaluate import plan_evaluate
from tasks.monitor import open_check
from tasks.promote import gate_and_promote
from tasks.steer import steer
from tasks.train import plan_train
from tests.adire import adire


def test_request_without_a_model_uses_the_only_one(applied: ModelConfig) -> None:
    assert open_model()[1] == open_model("adire")[1] == applied


def test_request_before_a_model_is_applied_is_rejected_with_a_hint(folder: FolderStore) -> None:
    with pytest.raises(ModelUnknown, match="name a model; none was applied yet: dyeworks models apply FILE"):
        open_model()


def test_request_without_a_model_is_rejected_with_the_list_of_several(
    folder: FolderStore, applied: ModelConfig
) -> None:
    apply_config(folder, adire(name="indigo"))
    for refused in (
        lambda: plan_train.fn(TrainRequest()),
        lambda: plan_evaluate.fn(EvaluateRequest()),
        lambda: gate_and_promote.fn(PromoteRequest()),
        lambda: open_check.fn(MonitorRequest()),
        lambda: steer.fn(SteerRequest()),
    ):
        with disable_run_logger(), pytest.raises(ModelUnknown) as caught:
            refused()
        assert str(caught.value) == "name a model; there are adire, indigo"
        assert caught.value.known == ["adire", "indigo"]
    with pytest.raises(ModelUnknown, match="no model 'addire'; there are adire, indigo"):
        open_model("addire")


def test_request_for_a_model_does_not_affect_another(folder: FolderStore, applied: ModelConfig) -> None:
    apply_config(folder, adire(name="indigo"))
    with disable_run_logger():
        steer.fn(SteerRequest(model="indigo", action="pause", reason="the show opens"))
    assert [decision.action for decision in read_decisions(folder, "indigo")] == ["pause"]
    assert read_decisions(folder, "adire") == []
