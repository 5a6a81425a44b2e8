"""The document of a decision, from a promotion to the store and MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tasks.core.config.model import ModelConfig
from tasks.core.config.requests import PromoteRequest
from tasks.core.lifecycle.promote import promote
from tasks.core.models.images import png
from tasks.core.registry.results import EvaluationResult, get_result, save_result
from tasks.core.reporting.gate_page import DecisionDocument, write_document
from tasks.core.store import FolderStore
from tests.adire import NAME, installed
from tests.candidates import evaluated

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


@pytest.fixture
def shop(
    model: ModelConfig, mlflow_home: "MlflowClient", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModelConfig:
    monkeypatch.chdir(tmp_path)  # MLflow's artifacts
    return model


def decided(folder: FolderStore, shop: ModelConfig, request: PromoteRequest) -> DecisionDocument:
    """The document of a promotion whose evaluation has a grid."""
    evaluation = get_result(folder, NAME, EvaluationResult, request.evaluation)
    folder.write("models/adire/results/evaluate/grid.png", png(Image.new("RGB", (8, 8), "blue")))
    save_result(folder, evaluation.model_copy(update={"grids": {"fixed": "models/adire/results/evaluate/grid.png"}}))
    return write_document(installed(folder), shop, request, promote(installed(folder), shop, request))


def test_a_promotion_is_explained_in_the_store_and_in_mlflow(
    folder: FolderStore, shop: ModelConfig, mlflow_home: "MlflowClient"
) -> None:
    request = PromoteRequest(evaluation=evaluated(folder, "a", 0))
    written = decided(folder, shop, request)
    page = folder.read(written.key).decode()
    assert "Promoted as generation 1" in page
    assert "the bare base model" in page
    assert "data:image/png;base64," in page
    assert written.markdown.startswith("# Promoted as generation 1")
    assert list(written.grids) == ["The fixed prompts: champion left, challenger right"]
    again = write_document(installed(folder), shop, request, promote(installed(folder), shop, request))
    assert again == written
    home = mlflow_home.get_experiment_by_name(f"{shop.name}-evaluate")
    (run,) = [r for r in mlflow_home.search_runs([home.experiment_id]) if r.info.run_name == request.evaluation]
    names = {found.path for found in mlflow_home.list_artifacts(run.info.run_id)}
    stem = Path(written.key).stem
    assert names == {f"decision-{stem}.html", f"decision-{stem}.json"}


def test_the_document_names_the_person_who_overruled(folder: FolderStore, shop: ModelConfig) -> None:
    evaluation = evaluated(folder, "a", 0, better=-0.2)
    person = PromoteRequest(evaluation=evaluation, actor="ada", reason="the show <opens> tonight")
    page = folder.read(decided(folder, shop, person).key).decode()
    assert "Promoted as generation 1, by ada against the gate" in page
    assert "the show &lt;opens&gt; tonight" in page
