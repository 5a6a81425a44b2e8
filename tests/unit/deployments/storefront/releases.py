"""Releases of a tiny pipeline for the tests of the storefront, and what damages them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors.torch import load_file, save_file

from deployments.storefront.adapters import AdapterCache
from deployments.storefront.engine import Engine
from deployments.storefront.follower import Follower
from deployments.storefront.render_queue import RenderedPicture, RenderOrder
from tasks.core.installation import Installation
from tasks.core.models.identity import WEIGHTS
from tasks.core.registry.releases import ReleaseManifest, prefix, write_release
from tasks.core.store import FolderStore
from tests.adire import installed

MODEL = "adire"
T = TypeVar("T")
MANIFEST = ReleaseManifest(
    base_model="b", dataset="d", dataset_version="v", training="t", trigger="adire_style", files={}
)


def home(store: FolderStore, **settings: object) -> Installation:
    return installed(store, device="cpu", **settings)


@dataclass
class HereAndNow:
    """In place of the engine's thread: actions are run by the caller."""

    adapters: AdapterCache

    def call(self, action: Callable[[], T]) -> T:
        return action()


def order(prompt: str = "rings", seed: int = 1, model: str = MODEL, **other: object) -> RenderOrder:
    usual: dict[str, object] = {"served": None, "negative": "", "width": 64, "height": 64, "steps": 1, "guidance": 2.0}
    return RenderOrder(model=model, prompt=prompt, seed=seed, **(usual | other))  # type: ignore[arg-type]


def draw(engine: Engine, prompt: str = "rings", seed: int = 1, **other: object) -> RenderedPicture:
    """A picture of the engine."""
    side = engine.own_size[0]
    about: dict[str, object] = {"width": side, "height": side, "steps": 2}
    (future,) = engine.submit([replace(order(prompt, seed), **(about | other))])  # type: ignore[arg-type]
    return future.result(120)


def released(store: FolderStore, adapter: Path, place: Path, scale: float = 1.0, model: str = MODEL) -> str:
    """A release of the LoRA with scaled weights; with NaN it renders black."""
    place.mkdir()
    save_file({k: v * scale for k, v in load_file(adapter / WEIGHTS).items()}, place / WEIGHTS, {"format": "pt"})
    return write_release(store, model, place, MANIFEST)


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def drawn(follower: Follower) -> list[object]:
    """What is drawn with the served release."""
    adapters, release = follower.engine.adapters, follower.served.release
    adapters.use(release, follower.mirror.path(MODEL, release))
    return [np.asarray(adapters.renderer.render(["rings"], [1], 2, 2.0)[0][0]).tolist()]


def loaded(follower: Follower) -> list[str]:
    """The adapters of the pipeline."""
    return list(follower.engine.adapters.renderer.pipe.get_list_adapters().get("unet", []))


def damage(store: FolderStore, release: str, model: str = MODEL) -> None:
    key = prefix(model, release) + WEIGHTS
    store.write(key, store.read(key)[:-1] + b"x")


def unreadable(tmp_path: Path, key: str) -> Callable[[], None]:
    """Make reading an object raise an OSError, as on an unmounted disk; returns a function that restores it."""
    place = tmp_path / "store" / key
    data = place.read_bytes()
    place.unlink()
    place.symlink_to(place)

    def back() -> None:
        place.unlink()
        place.write_bytes(data)

    return back
