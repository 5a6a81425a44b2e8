"""A follower of releases of a real tiny pipeline."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from deployments.storefront.adapters import AdapterCache
from deployments.storefront.door import Door
from deployments.storefront.follower import Follower
from deployments.storefront.metrics import Metrics
from deployments.storefront.mirror import Mirror
from deployments.storefront.service import StorefrontService
from tasks.core.config.model import ModelConfig
from tasks.core.events import Unhealthy
from tasks.core.models.families import family_of
from tasks.core.models.pipeline import load_pipeline
from tasks.core.models.rendering import Renderer
from tasks.core.registry.ledger import history
from tasks.core.registry.models import apply_config
from tasks.core.store import FolderStore
from tests.adire import adire
from tests.e2e.shops import published
from tests.unit.deployments.storefront.releases import MODEL, HereAndNow, home, released, wait_until


@pytest.fixture(scope="module")
def local(pipelines: dict[str, Path]) -> ModelConfig:
    return adire(base=str(pipelines["sd15"]), serving={"steps": 2, "safety": False})


@pytest.fixture(scope="module")
def adapter(local: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a LoRA with a visible effect."""
    folder = tmp_path_factory.mktemp("adapter")
    family = family_of(load_pipeline(local.base, "cpu"))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        family.pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v", "conv1"]))
        for parameter in family.pipe.unet.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
    family.save(folder)
    return folder


@pytest.fixture
def reports() -> list[Unhealthy]:
    return []


@pytest.fixture
def engine_here(local: ModelConfig) -> HereAndNow:
    return HereAndNow(AdapterCache(Renderer(local.base, "cpu"), 2))


@pytest.fixture
def follower(local: ModelConfig, folder: FolderStore, engine_here: HereAndNow, reports: list[Unhealthy]) -> Follower:
    return Follower(folder, local, Mirror(home(folder)), engine_here, reports.append)


@pytest.fixture
def serve(local: ModelConfig, folder: FolderStore) -> Iterator[Callable[..., StorefrontService]]:
    """Start the service of the model, or of some configurations, and wait until it renders."""
    started: list[StorefrontService] = []

    def start(*configs: ModelConfig, ready: bool = True, **settings: object) -> StorefrontService:
        installation = home(folder, **{"poll_seconds": 0.05} | settings)
        for config in configs or (local,):
            apply_config(folder, config)
        door = Door(installation.settings)
        service = StorefrontService(installation, configs or (local,), door, Metrics(), Mirror(installation))
        started.append(service)
        service.start()
        assert service.engine.loaded.wait(120)
        if ready:
            wait_until(lambda: not any(model.not_ready for model in service.models.values()))
        return service

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def publish(folder: FolderStore, adapter: Path, tmp_path: Path) -> Callable[..., str]:
    """Promote and publish a release of some scale, or one by name."""

    def put(scale: float = 1.0, release: str | None = None, model: str = MODEL) -> str:
        generation = len(history(folder, model)) + 1
        place = tmp_path / f"made-{model}-{generation}"
        name = released(folder, adapter, place, scale, model) if release is None else release
        published(folder, name, generation, model)
        return name

    return put
