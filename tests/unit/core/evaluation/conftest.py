"""What evaluations begin with: a dataset that is drawn once, the real scorer, and a store with both."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.base.visitors import FIRST_TASTE, draw_uploads
from tasks.core.config.model import ModelConfig
from tasks.core.config.presets import IngestSpec
from tasks.core.data.ingest import ingest
from tasks.core.models.clip import Clip
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.evaluations import Shop

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


@pytest.fixture(scope="session")
def clip() -> Clip:
    return Clip(adire(), "cpu")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a dataset of fifty pictures, from which each test begins."""
    folder = tmp_path_factory.mktemp("dataset")
    draw_uploads(folder / "uploads/adire", 50, FIRST_TASTE, seed=1, pixels=64)
    ingest(FolderStore(folder), "adire", IngestSpec())
    return folder


@pytest.fixture
def store(dataset: Path, folder: FolderStore, tmp_path: Path) -> FolderStore:
    shutil.copytree(dataset, tmp_path / "store", dirs_exist_ok=True)
    return folder


@pytest.fixture
def shop(
    store: FolderStore,
    model: ModelConfig,
    clip: Clip,
    mlflow_home: "MlflowClient",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Shop:
    monkeypatch.chdir(tmp_path)  # artifacts of MLflow lie where the process is
    return Shop(store, model, clip)
