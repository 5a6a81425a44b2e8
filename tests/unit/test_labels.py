"""Names of runs: the subject of each."""

import pytest

from tasks.core.config.base import Spec
from tasks.core.config.requests import (
    AdoptRequest,
    EvaluateRequest,
    IngestRequest,
    MonitorRequest,
    PromoteRequest,
    PublishRequest,
    RetrainRequest,
    SteerRequest,
    TrainRequest,
)
from tasks.labels import STAGE, stage_name, subject


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (TrainRequest(key="3f2ac0ffee", dataset="cloth"), "3f2a"),
        (TrainRequest(dataset="cloth"), "cloth"),
        (EvaluateRequest(training="ab12cd"), "ab12"),
        (PromoteRequest(evaluation="77aa00"), "77aa"),
        (RetrainRequest(cause="drift", dataset="cloth"), "drift"),
        (IngestRequest(dataset="cloth"), "cloth"),
        (PublishRequest(generation=7), "7"),
        (PublishRequest(), ""),
        (MonitorRequest(), ""),
        (AdoptRequest(source="adopted/adire"), ""),
        (SteerRequest(action="resume"), "resume"),
    ],
)
def test_run_is_named_by_the_subject_of_its_request(request_: Spec, word: str) -> None:
    assert subject(request_.model_dump(mode="json")) == word


def test_a_stage_is_named_by_its_model_its_key_and_its_attempt() -> None:
    assert stage_name("adire", "train-lora", "3f2ac0ffee", 1) == "retrain adire: train-lora 3f2a"
    assert stage_name("adire", "train-lora", "3f2ac0ffee", 2) == "retrain adire: train-lora 3f2a #2"
    assert stage_name("adire", "train-lora", "3f2ac0ffee", 1).startswith(STAGE), "which prefect.yaml leaves alone"
