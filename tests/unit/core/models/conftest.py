"""Renderers of the tiny bases, and the shapes of the modules that a LoRA may adapt."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.models.rendering import Renderer
from tests import loras


@pytest.fixture(scope="module")
def renderers(pipelines: dict[str, Path]) -> dict[str, Renderer]:
    return {name: Renderer(str(folder), "cpu") for name, folder in pipelines.items()}


@pytest.fixture(scope="module")
def shapes(renderers: dict[str, Renderer]) -> dict[str, loras.Shapes]:
    return {name: loras.shapes_of(renderer.pipe) for name, renderer in renderers.items()}


@pytest.fixture
def sd15(renderers: dict[str, Renderer]) -> Iterator[Renderer]:
    yield renderers["sd15"]
    assert not any(renderers["sd15"].pipe.get_list_adapters().values()), "what was refused left something behind"
