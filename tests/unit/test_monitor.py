"""The drift monitor over several models: one encoder, each model by itself."""

import pytest
from prefect.states import Completed, Failed

from tasks.context import ModelsFailed, one_a_model, require_all
from tasks.core.config.requests import MonitorRequest
from tasks.core.errors import ModelUnknown
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tasks.monitor import _clip
from tests.adire import adire


def test_models_of_one_scorer_share_its_encoder() -> None:
    first, second = (_clip(adire(name=name), "cpu") for name in ("adire", "batik"))
    assert first.encoder is second.encoder


def test_a_request_without_a_model_is_for_each(folder: FolderStore) -> None:
    with pytest.raises(ModelUnknown):
        one_a_model(MonitorRequest())
    for name in ("batik", "adire"):
        apply_config(folder, adire(name=name))
    assert [request.model for request in one_a_model(MonitorRequest())] == ["adire", "batik"]
    assert [request.model for request in one_a_model(MonitorRequest(model="batik"))] == ["batik"]


def test_models_that_failed_are_named_with_their_faults() -> None:
    require_all({"adire": Completed(), "batik": Completed()})
    with pytest.raises(ModelsFailed, match="for 1 of the models, done for the others: model batik: no reference"):
        require_all({"adire": Completed(), "batik": Failed(message="no reference")})
