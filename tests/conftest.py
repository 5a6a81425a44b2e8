"""Fixtures of all tests: isolated settings, and a small server that accepts events."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
import torch

from tasks.core.config.installation import Settings
from tasks.core.config.model import ModelConfig
from tasks.core.installation import Installation
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tasks.core.store.inventory import place_of
from tests.adire import adire, environments_server
from tests.events_server import EventsServer
from tests.hub_repos import Account
from tests.hub_server import TOKEN, HubServer

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from tests.postgres_server import PostgresServer

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith(("DYEWORKS_", "PREFECT_API_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DYEWORKS_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("DYEWORKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / "profiles.toml"))  # a developer's may name a real server


@pytest.fixture(scope="session")
def opened_stores() -> Iterator[list[FolderStore]]:
    """All folder stores that were opened in this process."""
    opened, usual = list[FolderStore](), FolderStore.__init__

    def note(store: FolderStore, root: Path, create: bool = True) -> None:
        usual(store, root, create)
        opened.append(store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderStore, "__init__", note)
        yield opened


@pytest.fixture(autouse=True, scope="module")
def no_unnamed_objects_of_services(request: pytest.FixtureRequest, opened_stores: list[FolderStore]) -> Iterator[None]:
    """Fails a module of end-to-end tests that leaves an object which no inventory names."""
    before = len(opened_stores)
    yield
    if "e2e" in request.path.parts:
        assert not unnamed(opened_stores[before:])


@pytest.fixture(autouse=True)
def no_unnamed_objects(request: pytest.FixtureRequest, opened_stores: list[FolderStore]) -> Iterator[None]:
    """Fails a test that leaves an object which no inventory names, unless it is marked `any_key`."""
    before = len(opened_stores)
    yield
    if not request.node.get_closest_marker("any_key"):
        assert not unnamed(opened_stores[before:]), "no place of tasks/core/store/inventory.py names them"


def unnamed(opened: list[FolderStore]) -> list[str]:
    """The objects in these stores that no place names."""
    stores = {store.url: store for store in opened if Path(unquote(urlsplit(store.url).path)).is_dir()}
    return [f"{url}/{key}" for url, store in stores.items() for key in store.list("") if not place_of(key)]


@pytest.fixture
def settings(own_settings: None) -> Settings:
    return Settings()


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    """The folder store that the settings name."""
    return FolderStore(tmp_path / "store")


@pytest.fixture
def model() -> ModelConfig:
    """The example model."""
    return adire()


@pytest.fixture
def applied(folder: FolderStore, model: ModelConfig) -> ModelConfig:
    """The example model, applied in the store that the settings name."""
    return apply_config(folder, model).config


@pytest.fixture
def installation(settings: Settings, folder: FolderStore) -> Installation:
    """The installation of the settings; no model is applied in its store yet."""
    return Installation(settings, folder, environments_server())


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch, own_settings: None) -> Iterator[EventsServer]:
    """A running events server, to which PREFECT_API_URL points."""
    server = EventsServer()
    server.start()
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    yield server
    server.stop()


@pytest.fixture
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A running Hub, to which HF_ENDPOINT points; its TOKEN may write to the organisation cloth."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    server = HubServer()
    server.start()
    server.accounts[TOKEN] = Account("ada", orgs={"cloth": "write"})
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database; creating it takes seconds."""
    import mlflow  # noqa: PLC0415  late: it takes seconds

    place = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.tracking.MlflowClient(tracking_uri=f"sqlite:///{place}").search_experiments()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return place


@pytest.fixture(scope="module")
def mlflow_home(mlflow_database: Path) -> Iterator["MlflowClient"]:
    """A client of a real SQLite store, which is that of the process."""
    import mlflow  # noqa: PLC0415

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{mlflow_database}")
    yield mlflow.tracking.MlflowClient()
    mlflow.set_tracking_uri(before)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # mlflow sets it for child processes


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with a tiny pipeline of each family."""
    from tests.pipelines import FAMILIES, save_pipeline  # noqa: PLC0415  late: diffusers takes seconds

    folder = tmp_path_factory.mktemp("pipelines")
    return {name: save_pipeline(name, folder / name) for name in FAMILIES}


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """The environment variables that point a process to the one S3 server of all tests; it takes seconds to start."""
    from tests.s3_server import s3_server  # noqa: PLC0415  late: few tests need boto3

    with s3_server() as environment:
        yield environment


@pytest.fixture(scope="module")
def bucket(s3: dict[str, str]) -> Iterator[str]:
    """A bucket of the S3 server, to which the environment points for a module; each test takes a prefix of its own."""
    from tests.s3_server import BUCKET  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.items():
            patch.setenv(name, value)
        yield BUCKET


@pytest.fixture(scope="session")
def postgres() -> Iterator["PostgresServer"]:
    """The one Postgres of all tests; each takes a database of its own."""
    from tests.postgres_server import postgres_server  # noqa: PLC0415  late: few tests need it

    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def outbox_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty outbox, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'outbox.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()
