"""The storefront's engine follows the channel, also to the bare base."""

from pathlib import Path

from deployments.storefront.engine import Engine
from tasks.core.registry.channel import flip
from tasks.core.registry.ledger import Entry
from tasks.core.rendering import Renderer
from tasks.core.settings import Settings
from tasks.core.store import FolderStore
from tests.candidates import NOW


def test_a_generation_without_a_release_is_the_bare_base(
    folder: FolderStore, settings: Settings, pipelines: dict[str, Path]
) -> None:
    local = settings.model_copy(update={"base_model": str(pipelines["sd15"]), "device": "cpu"})
    entry = Entry(
        generation=2, action="roll_back", release="", dataset_version="", actor="ada", reason="withdrawn", time=NOW
    )
    flip(folder, settings.model, entry)
    engine = Engine(folder, local)
    renderer = Renderer(local)
    engine._follow(renderer)
    assert (engine.generation, engine.release, renderer.active) == (2, "", "")
